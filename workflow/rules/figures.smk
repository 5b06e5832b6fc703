from sspo.experiment.runs import measures_kl, tries_gates
from sspo.figures.registry import module_of

# Figure -> (files it is drawn from, what it shows).
FIGURE_SOURCES = {
    "f0_differences": (
        ["comparisons", "summary/runs"],
        "what SSPO gains on every baseline where claims are decided, and the dose of each regime",
    ),
    "f1_gates": (
        ["summary/gates", "summary/gate_facts"],
        "gradient weight against the log-ratio, and what tau does to SSPO's gates",
    ),
    "f2_reward": (["summary/metrics"], "training reward and differences in it"),
    "f3_accuracy": (["summary/metrics"], "validation accuracy and differences in it"),
    "f4_entropy": (["summary/metrics"], "entropy and differences in it"),
    "f5_kl": (["summary/metrics"], "KL to the initial policy and differences in it"),
    "f6_log_ratio": (["summary/metrics"], "quantiles of the log-ratio over training"),
    "f7_grad_norm": (["summary/metrics"], "gradient norm"),
    "f8_attenuation": (
        ["summary/runs", "summary/metrics"],
        "dose of every regime: drift, clipped tokens, weights, and what the gates made of it",
    ),
    "f9_length": (["summary/metrics"], "response length and truncation"),
    "f11_weights": (["summary/metrics"], "variance of sequence weights against drift"),
    "f15_gradient_mass": (["summary/metrics"], "where the gradient comes from, by regime"),
    "f16_verdicts": (
        ["comparisons", "summary/runs"],
        "every comparison in a deciding measure on one scale",
    ),
}
# Table -> the same.
TABLE_SOURCES = {
    "t1_benchmarks": (["summary/evaluations"], "final accuracy with intervals"),
    "t2_factorial": (["factorial"], "the 2 x 2 of level and gate by regime"),
    "t4_settings": (["summary/settings"], "hyperparameters and their sources"),
    "t5_outcomes": (["summary/runs"], "outcomes by regime"),
}
if not any(measures_kl(RUNS[run]["train"]) for run in RL_RUNS):
    del FIGURE_SOURCES["f5_kl"]
if "regimes" in config:
    swept = "outcome of every run by regime, and the dose"
    FIGURE_SOURCES["f10_staleness"] = (["summary/runs"], swept)
if "tuning" in config:
    trials = [f"{place}/trials" for place in TRIALS]
    FIGURE_SOURCES["f12_tuning"] = (trials, "validation accuracy of every trial")
    if tries_gates(config["tuning"]["params"]):
        FIGURE_SOURCES["f17_surface"] = (trials, "validation accuracy by gate and temperature")
    TABLE_SOURCES["t3_tuning"] = (trials, "every trial and what was chosen")
if "exact_study" in CONFIGS:
    FIGURE_SOURCES["f13_exact"] = (
        ["exact_study/gradients"],
        "bias, variance and weights of the expected gradients under drift",
    )
    FIGURE_SOURCES["f14_staleness"] = (
        ["exact_study/pushes", "exact_study/training"],
        "a bad response pushed down, and training on stale responses, exactly",
    )


rule gate_curves:
    """Data of F1: every method's gate, measured on the objective itself."""
    input:
        code("gate_curves"),
        script=script("gate_curves"),
        configs=[f"{RESULTS}/runs/{run}/config.json" for run in ONE_RUN_PER_METHOD],
    output:
        table=f"{RESULTS}/summary/gates.csv",
        facts=f"{RESULTS}/summary/gate_facts.csv",
        provenance=f"{RESULTS}/summary/gates.provenance.json",
    log:
        f"{RESULTS}/logs/gate_curves.log",
    benchmark:
        f"{RESULTS}/benchmarks/gate_curves.tsv"
    localrule: True
    shell:
        "python {input.script:q} --configs {input.configs} --output {output.table}"
        " --facts {output.facts} > {log} 2>&1"


rule settings:
    """Data of T4: every setting with its source, tuned ones as they were chosen."""
    input:
        code("settings"),
        script=script("settings"),
        sources=checkout("workflow/sources.yaml"),
        settings=f"{RESULTS}/settings/config.json",
        choices=[f"{RESULTS}/{place}/choices.json" for place in TRIALS],
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


for figure, (frames, shows) in FIGURE_SOURCES.items():

    rule:
        name:
            f"plot_{figure}"
        input:
            code("plot", module_of(figure)),
            script=script("plot"),
            methods=looks_of(frames),
            frames=[f"{RESULTS}/{frame}.csv" for frame in frames],
        output:
            png=report(
                f"{FIGURES}/{figure}.png",
                caption=f"../report/{figure}.rst",
                category="Figures",
                labels={"name": numbered(figure), "shows": shows},
            ),
            pdf=f"{FIGURES}/{figure}.pdf",
            provenance=f"{FIGURES}/{figure}.json",
        log:
            f"{RESULTS}/logs/plot/{figure}.log",
        benchmark:
            f"{RESULTS}/benchmarks/plot/{figure}.tsv"
        localrule: True
        shell:
            "python {input.script:q} --methods {input.methods} --inputs {input.frames}"
            " --output {output.png} > {log} 2>&1"


for table, (frames, shows) in TABLE_SOURCES.items():

    rule:
        name:
            f"tabulate_{table}"
        input:
            code("write_table", module_of(table)),
            script=script("write_table"),
            template=checkout("workflow/report/table.html"),
            methods=looks_of(frames),
            frames=[f"{RESULTS}/{frame}.csv" for frame in frames],
        output:
            html=report(
                f"{FIGURES}/{table}.html",
                caption=f"../report/{table}.rst",
                category="Tables",
                labels={"name": numbered(table), "shows": shows},
            ),
            markdown=f"{FIGURES}/{table}.md",
            csv=f"{FIGURES}/{table}.csv",
            provenance=f"{FIGURES}/{table}.json",
        log:
            f"{RESULTS}/logs/tabulate/{table}.log",
        benchmark:
            f"{RESULTS}/benchmarks/tabulate/{table}.tsv"
        localrule: True
        shell:
            "python {input.script:q} --methods {input.methods} --inputs {input.frames}"
            " --template {input.template:q} --output {output.html} > {log} 2>&1"
