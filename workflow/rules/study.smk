rule exact_study:
    """Every objective's gradient where all responses can be enumerated: no sampling, no noise."""
    input:
        code("exact_study"),
        config=f"{RESULTS}/exact_study/config.json",
    output:
        expand(f"{RESULTS}/exact_study/{{table}}.csv", table=STUDY_TABLES),
        provenance=f"{RESULTS}/exact_study/provenance.json",
    log:
        f"{RESULTS}/logs/exact_study.log",
    benchmark:
        f"{RESULTS}/benchmarks/exact_study.tsv"
    conda:
        ENVIRONMENT
    params:
        folder=subpath(output.provenance, parent=True),
    shell:
        "python workflow/scripts/exact_study.py --config {input.config} --output {params.folder}"
        " > {log} 2>&1"


for figure, title in STUDY_FIGURES.items():

    rule:
        name:
            f"plot_{figure}"
        input:
            code("plot"),
            methods=f"{RESULTS}/exact_study/methods/config.json",
            frames=expand(f"{RESULTS}/exact_study/{{table}}.csv", table=STUDY_TABLES),
        output:
            png=report(
                f"{FIGURES}/{figure}.png",
                caption=f"../report/{figure}.rst",
                category="Figures",
                labels={"name": figure.split("_")[0].upper(), "shows": title},
            ),
            pdf=f"{FIGURES}/{figure}.pdf",
            provenance=f"{FIGURES}/{figure}.json",
        log:
            f"{RESULTS}/logs/plot/{figure}.log",
        benchmark:
            f"{RESULTS}/benchmarks/plot/{figure}.tsv"
        conda:
            ENVIRONMENT
        params:
            figure=figure,
            frames=lambda wildcards, input: [f"{Path(f).stem}={f}" for f in input.frames],
        shell:
            "python workflow/scripts/plot.py --figure {params.figure} --methods {input.methods}"
            " --inputs {params.frames:q} --output {output.png} > {log} 2>&1"
