SHOWN_RUN = f"runs/{ONE_RUN_PER_METHOD[0]}"


rule before_after:
    """What the first run changed: for a first look, without the other runs (`make demo`)."""
    input:
        code("before_after"),
        script=script("before_after"),
        metrics=f"{RESULTS}/{SHOWN_RUN}/metrics.jsonl",
        config=f"{RESULTS}/{SHOWN_RUN}/config.json",
        looks=f"{RESULTS}/methods/config.json",
        before=f"{RESULTS}/{base_of(SHOWN_RUN)}/completions.jsonl.gz",
        after=f"{RESULTS}/{SHOWN_RUN}/completions.jsonl.gz",
        problems=f"{RESULTS}/{DATA[base_of(SHOWN_RUN)]}/{config['evaluation']['splits'][0]}.jsonl",
    output:
        png=f"{FIGURES}/before_after.png",
        pdf=f"{FIGURES}/before_after.pdf",
        table=f"{FIGURES}/before_after.md",
        provenance=f"{FIGURES}/before_after.json",
    log:
        f"{RESULTS}/logs/before_after.log",
    benchmark:
        f"{RESULTS}/benchmarks/before_after.tsv"
    localrule: True
    shell:
        "python {input.script:q} --metrics {input.metrics} --config {input.config} --looks {input.looks}"
        " --before {input.before} --after {input.after} --problems {input.problems}"
        " --output {output.png} --table {output.table} > {log} 2>&1"
