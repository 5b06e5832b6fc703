rule measure:
    """A row per run: speed, stability, drift and final scores."""
    input:
        code("measure"),
        script=script("measure"),
        plan=checkout("workflow/claims.yaml"),
        metrics=f"{RESULTS}/summary/metrics.csv",
        evaluations=f"{RESULTS}/summary/evaluations.csv",
        configs=[f"{RESULTS}/runs/{run}/config.json" for run in FINAL_RUNS if run in RL_RUNS],
    output:
        table=f"{RESULTS}/summary/runs.csv",
        provenance=f"{RESULTS}/summary/runs.provenance.json",
    log:
        f"{RESULTS}/logs/measure.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure.tsv"
    localrule: True
    params:
        runs=lambda wildcards, input: Path(input.configs[0]).parents[1],
    shell:
        "python {input.script:q} --plan {input.plan:q} --metrics {input.metrics}"
        " --evaluations {input.evaluations} --runs {params.runs} --output {output.table} > {log} 2>&1"


rule judge:
    """The verdicts on the claims, by the rules of the plan."""
    input:
        code("judge"),
        script=script("judge"),
        plan=checkout("workflow/claims.yaml"),
        config=f"{RESULTS}/claims/config.json",
        runs=f"{RESULTS}/summary/runs.csv",
        scores=f"{RESULTS}/summary/scores.csv.gz",
        methods=f"{RESULTS}/methods/config.json",
    output:
        f"{RESULTS}/claims.md",
        report=f"{RESULTS}/claims.json",
        comparisons=f"{RESULTS}/comparisons.csv",
        factorial=f"{RESULTS}/factorial.csv",
        provenance=f"{RESULTS}/claims.provenance.json",
    log:
        f"{RESULTS}/logs/judge.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge.tsv"
    localrule: True
    params:
        folder=subpath(output.report, parent=True),
    shell:
        "python {input.script:q} --plan {input.plan:q} --config {input.config} --runs {input.runs}"
        " --scores {input.scores} --methods {input.methods} --output {params.folder} > {log} 2>&1"
