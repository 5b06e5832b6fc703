rule environment:
    """What the results were made with: commit, versions, hardware, pins."""
    input:
        code("environment"),
        pins=["requirements.txt", "environment.yml"],
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
    conda:
        ENVIRONMENT
    shell:
        "python workflow/scripts/environment.py --inputs {input.pins} --output {output} > {log} 2>&1"
