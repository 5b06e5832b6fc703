# What a reader sees first, and then the figures by their numbers.
HERO = next(name for name in ("f0_differences", "f16_verdicts") if name in FIGURE_SOURCES)
SHOWN_FIGURES = [HERO, *(name for name in sorted(FIGURE_SOURCES, key=numbered) if name != HERO)]
SHOWN_TABLES = sorted(TABLE_SOURCES, key=numbered)
SHOWN = {name: shows for name, (_, shows) in {**FIGURE_SOURCES, **TABLE_SOURCES}.items()}


rule environment:
    """What the results were made with: commit, versions, hardware, pins."""
    input:
        code("environment"),
        script=script("environment"),
        pins=[checkout("requirements.txt"), checkout("environment.yml")],
    output:
        f"{RESULTS}/environment.json",
    log:
        f"{RESULTS}/logs/environment.log",
    benchmark:
        f"{RESULTS}/benchmarks/environment.tsv"
    shell:
        "python {input.script:q} --inputs {input.pins:q} --output {output} > {log} 2>&1"


rule curves:
    """The interactive page: every run's curves, and responses of a run beside them."""
    input:
        code("write_curves"),
        script=script("write_curves"),
        template=checkout("workflow/report/curves.html"),
        methods=f"{RESULTS}/methods/config.json",
        metrics=f"{RESULTS}/summary/metrics.csv",
    output:
        html=report(
            f"{FIGURES}/curves.html",
            caption="../report/curves.rst",
            category="Curves",
            labels={"name": "curves", "shows": "every run, interactive, with samples"},
        ),
        provenance=f"{FIGURES}/curves.json",
    log:
        f"{RESULTS}/logs/curves.log",
    benchmark:
        f"{RESULTS}/benchmarks/curves.tsv"
    localrule: True
    params:
        # Not an input: runs that were put back from records have no texts, and shall not run again for them.
        runs=f"{RESULTS}/runs",
    shell:
        "python {input.script:q} --methods {input.methods} --metrics {input.metrics}"
        " --runs {params.runs} --template {input.template:q} --output {output.html} > {log} 2>&1"


rule overview:
    """The page that the report opens on: verdicts, figures, tables, environment, settings."""
    input:
        code("write_overview"),
        script=script("write_overview"),
        template=checkout("workflow/report/overview.html"),
        captions=[
            checkout(f"workflow/report/{name}.rst") for name in (*SHOWN_FIGURES, *SHOWN_TABLES)
        ],
        claims=f"{RESULTS}/claims.md",
        environment=f"{RESULTS}/environment.json",
        settings=f"{RESULTS}/settings/config.json",
        runs=f"{RESULTS}/summary/runs.csv",
        figures=[f"{FIGURES}/{name}.png" for name in SHOWN_FIGURES],
        tables=[f"{FIGURES}/{name}.md" for name in SHOWN_TABLES],
    output:
        html=f"{RESULTS}/overview.html",
        provenance=f"{RESULTS}/overview.provenance.json",
    log:
        f"{RESULTS}/logs/overview.log",
    benchmark:
        f"{RESULTS}/benchmarks/overview.tsv"
    localrule: True
    params:
        curves=f"{FIGURES}/curves.html",
        titles=[SHOWN[name] for name in (*SHOWN_FIGURES, *SHOWN_TABLES)],
    shell:
        "python {input.script:q} --template {input.template:q} --captions {input.captions:q}"
        " --titles {params.titles:q} --claims {input.claims} --environment {input.environment}"
        " --settings {input.settings} --runs {input.runs} --curves {params.curves}"
        " --figures {input.figures} --tables {input.tables} --output {output.html} > {log} 2>&1"
