rule exact_study:
    """Every objective's gradient where all responses can be enumerated: no sampling, no noise."""
    input:
        code("exact_study"),
        script=script("exact_study"),
        config=f"{RESULTS}/exact_study/config.json",
    output:
        [f"{RESULTS}/exact_study/{name}.csv" for name in ("gradients", "pushes", "training")],
        provenance=f"{RESULTS}/exact_study/provenance.json",
    log:
        f"{RESULTS}/logs/exact_study.log",
    benchmark:
        f"{RESULTS}/benchmarks/exact_study.tsv"
    params:
        folder=subpath(output.provenance, parent=True),
    shell:
        "python {input.script:q} --config {input.config} --output {params.folder} > {log} 2>&1"
