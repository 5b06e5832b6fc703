rule environment:
    """What the results were made with: commit, versions, hardware, pins."""
    input:
        code("environment"),
        script=script("environment"),
        pins=[checkout("requirements.txt"), checkout("environment.yml")],
    output:
        report(
            f"{RESULTS}/environment.json",
            caption="../report/environment.rst",
            category="Provenance",
            labels={"name": "environment", "shows": "commit, versions, hardware"},
        ),
    log:
        f"{RESULTS}/logs/environment.log",
    benchmark:
        f"{RESULTS}/benchmarks/environment.tsv"
    shell:
        "python {input.script:q} --inputs {input.pins:q} --output {output} > {log} 2>&1"
