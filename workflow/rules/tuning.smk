rule choose:
    """Every method's learning rate and parameters, by the validation accuracy of its trials."""
    input:
        code("choose"),
        script=script("choose"),
        config=f"{RESULTS}/tuning/config.json",
        configs=expand(f"{RESULTS}/runs/{{run}}/config.json", run=TRIAL_RUNS),
        metrics=expand(f"{RESULTS}/runs/{{run}}/metrics.jsonl", run=TRIAL_RUNS),
    output:
        choices=f"{RESULTS}/tuning/choices.json",
        trials=f"{RESULTS}/tuning/trials.csv",
        provenance=f"{RESULTS}/tuning/provenance.json",
    log:
        f"{RESULTS}/logs/choose.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose.tsv"
    localrule: True
    params:
        runs=lambda wildcards, input: Path(input.metrics[0]).parents[1],
        folder=subpath(output.choices, parent=True),
    shell:
        "python {input.script:q} --config {input.config} --runs {params.runs}"
        " --output {params.folder} > {log} 2>&1"
