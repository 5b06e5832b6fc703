rule gate_curves:
    """Data of F1: every method's gate, measured on the objective itself."""
    input:
        code("gate_curves"),
        script=script("gate_curves"),
        configs=[f"{RESULTS}/runs/{run}/config.json" for run in ONE_RUN_PER_METHOD],
    output:
        table=f"{RESULTS}/summary/gates.csv",
        provenance=f"{RESULTS}/summary/gates.provenance.json",
    log:
        f"{RESULTS}/logs/gate_curves.log",
    benchmark:
        f"{RESULTS}/benchmarks/gate_curves.tsv"
    localrule: True
    shell:
        "python {input.script:q} --configs {input.configs} --output {output.table} > {log} 2>&1"


rule settings:
    """Data of T4: every setting with its source, tuned ones as they were chosen."""
    input:
        code("settings"),
        script=script("settings"),
        sources=checkout("workflow/sources.yaml"),
        settings=f"{RESULTS}/settings/config.json",
        choices=[f"{RESULTS}/tuning/choices.json"] if "tuning" in config else [],
    output:
        table=f"{RESULTS}/summary/settings.csv",
        provenance=f"{RESULTS}/summary/settings.provenance.json",
    log:
        f"{RESULTS}/logs/settings.log",
    benchmark:
        f"{RESULTS}/benchmarks/settings.tsv"
    localrule: True
    shell:
        "python {input.script:q} --sources {input.sources:q} --settings {input.settings}"
        " --choices {input.choices} --output {output.table} > {log} 2>&1"


for figure, (looks, tables, title) in FIGURE_SOURCES.items():

    rule:
        name:
            f"plot_{figure}"
        input:
            code("plot"),
            script=script("plot"),
            methods=f"{RESULTS}/{looks}/config.json",
            frames=[f"{RESULTS}/{table}.csv" for table in tables],
        output:
            png=report(
                f"{FIGURES}/{figure}.png",
                caption=f"../report/{figure}.rst",
                category="Tables" if figure.startswith("t") else "Figures",
                labels={"name": figure.split("_")[0].upper(), "shows": title},
            ),
            pdf=f"{FIGURES}/{figure}.pdf",
            provenance=f"{FIGURES}/{figure}.json",
        log:
            f"{RESULTS}/logs/plot/{figure}.log",
        benchmark:
            f"{RESULTS}/benchmarks/plot/{figure}.tsv"
        localrule: True
        params:
            figure=figure,
            frames=[f"{Path(table).name}={RESULTS}/{table}.csv" for table in tables],
        shell:
            "python {input.script:q} --figure {params.figure} --methods {input.methods}"
            " --inputs {params.frames:q} --output {output.png} > {log} 2>&1"
