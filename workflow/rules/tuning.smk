rule choose:
    """Every method's learning rate and parameters, by the validation accuracy of a regime's trials."""
    input:
        code("choose"),
        script=script("choose"),
        config=f"{RESULTS}/{{tuning}}/config.json",
        configs=of_trials("config.json"),
        metrics=of_trials("metrics.jsonl"),
    output:
        choices=f"{RESULTS}/{{tuning}}/choices.json",
        trials=f"{RESULTS}/{{tuning}}/trials.csv",
        provenance=f"{RESULTS}/{{tuning}}/provenance.json",
    log:
        f"{RESULTS}/logs/{{tuning}}/choose.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{tuning}}/choose.tsv"
    wildcard_constraints:
        tuning=one_of(TRIALS),
    localrule: True
    params:
        runs=lambda wildcards, input: Path(input.metrics[0]).parents[1],
        folder=subpath(output.choices, parent=True),
    shell:
        "python {input.script:q} --config {input.config} --runs {params.runs}"
        " --output {params.folder} > {log} 2>&1"
