rule write_config:
    """Each config in a file of its own, so that an edit reruns only what depends on it.

    A tuned run takes its learning rate and parameters from what the trials chose.
    """
    input:
        code("write_config"),
        choices=choices_of,
    output:
        report(
            f"{RESULTS}/{{place}}/config.json",
            caption="../report/config.rst",
            category="Configurations",
            labels={"name": "{place}", "shows": "settings of the rule"},
        ),
    log:
        f"{RESULTS}/logs/write_config/{{place}}.log",
    conda:
        ENVIRONMENT
    params:
        config=lambda wildcards: inert_json(CONFIGS[wildcards.place]),
    shell:
        "python workflow/scripts/write_config.py {params.config:q} {output} {input.choices} > {log} 2>&1"


rule prepare_data:
    """Problems with exact answers in disjoint splits: of the procedural task, or of real data sets."""
    input:
        code("prepare_data"),
        DATA_FILES,
        config=f"{RESULTS}/{{data}}/config.json",
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
    conda:
        ENVIRONMENT
    params:
        folder=subpath(output.summary, parent=True),
    shell:
        "python workflow/scripts/prepare_data.py --config {input.config} --output {params.folder}"
        " > {log} 2>&1"
