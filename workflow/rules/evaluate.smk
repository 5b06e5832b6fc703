rule evaluate:
    """Greedy and sampled completions of one checkpoint on the held-out splits."""
    input:
        lambda wildcards: code("evaluate", config=CONFIGS[evaluation_of(wildcards)]),
        script=script("evaluate"),
        config=lambda wildcards: f"{RESULTS}/{evaluation_of(wildcards)}/config.json",
        model=f"{RESULTS}/{{place}}/model/model.safetensors",
        data=data_file("summary.json"),
        splits=evaluated_splits,
    output:
        summary=f"{RESULTS}/{{place}}/eval.json",
        scores=f"{RESULTS}/{{place}}/scores.csv.gz",
        completions=f"{RESULTS}/{{place}}/completions.jsonl.gz",
        provenance=f"{RESULTS}/{{place}}/eval.provenance.json",
    log:
        f"{RESULTS}/logs/evaluate/{{place}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{place}}.tsv"
    wildcard_constraints:
        place=one_of(EVALUATED),
    threads: config["compute"]["threads"]
    resources:
        **GPUS,
        mem_mb=MEMORY,
    params:
        model=subpath(input.model, parent=True),
        data=subpath(input.data, parent=True),
        folder=subpath(output.summary, parent=True),
    shell:
        "python {input.script:q} --config {input.config} --model {params.model}"
        " --data {params.data} --output {params.folder} > {log} 2>&1"


rule summarize:
    """Tidy tables over all runs: training metrics, evaluations with intervals, settings."""
    input:
        code("summarize"),
        script=script("summarize"),
        evaluation=f"{RESULTS}/evaluation/config.json",
        configs=expand(f"{RESULTS}/runs/{{run}}/config.json", run=FINAL_RUNS),
        metrics=expand(f"{RESULTS}/runs/{{run}}/metrics.jsonl", run=FINAL_RUNS),
        scores=expand(f"{RESULTS}/{{place}}/scores.csv.gz", place=EVALUATED),
        evaluated=expand(f"{RESULTS}/{{place}}/eval.json", place=EVALUATED),
    output:
        metrics=f"{RESULTS}/summary/metrics.csv",
        evaluations=f"{RESULTS}/summary/evaluations.csv",
        scores=f"{RESULTS}/summary/scores.csv.gz",
        provenance=f"{RESULTS}/summary/provenance.json",
    log:
        f"{RESULTS}/logs/summarize.log",
    benchmark:
        f"{RESULTS}/benchmarks/summarize.tsv"
    localrule: True
    params:
        results=subpath(input.evaluation, ancestor=2),
        folder=subpath(output.metrics, parent=True),
        runs=lambda wildcards, input: [Path(config).parent.name for config in input.configs],
    shell:
        "python {input.script:q} --results {params.results} --output {params.folder}"
        " --runs {params.runs} > {log} 2>&1"
