rule write_config:
    """Each config in a file of its own, so that an edit reruns only what depends on it.

    A tuned run takes its learning rate and parameters from what the trials chose.
    """
    input:
        lambda wildcards: code("write_config", config=CONFIGS[wildcards.place]),
        script=script("write_config"),
        choices=choices_of,
    output:
        f"{RESULTS}/{{place}}/config.json",
    log:
        f"{RESULTS}/logs/write_config/{{place}}.log",
    localrule: True
    params:
        # An edit shows in the hash. What takes inputs is not compared, nor printed whole as the reason of a rerun.
        settings=lambda wildcards: f"settings {short_hash(CONFIGS[wildcards.place])}",
        config=lambda wildcards, input: inert_json(CONFIGS[wildcards.place]),
    shell:
        "python {input.script:q} {params.config:q} {output} {input.choices} > {log} 2>&1"


rule prepare_data:
    """Problems with exact answers in disjoint splits: of the procedural task, or of real data sets.

    A published base model comes first: its tokenizer says which prompts leave room for a response, so
    that training never begins with one that does not.
    """
    input:
        lambda wildcards: code("prepare_data", config=CONFIGS[wildcards.data]),
        DATA_FILES,
        script=script("prepare_data"),
        config=f"{RESULTS}/{{data}}/config.json",
        models=published_readers,
    output:
        [f"{RESULTS}/{{data}}/{split}.jsonl" for split in SPLITS],
        summary=f"{RESULTS}/{{data}}/summary.json",
        provenance=f"{RESULTS}/{{data}}/provenance.json",
    log:
        f"{RESULTS}/logs/prepare_data/{{data}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_data/{{data}}.tsv"
    wildcard_constraints:
        data=one_of({*DATA.values()}),
    params:
        folder=subpath(output.summary, parent=True),
        models=lambda wildcards, input: [Path(model).parent for model in input.models],
    shell:
        "python {input.script:q} --config {input.config} --models {params.models}"
        " --output {params.folder} > {log} 2>&1"
