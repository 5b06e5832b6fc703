from snakemake.utils import min_version

min_version("9.0")


configfile: "config/default.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/study.smk"
include: "workflow/rules/report.smk"


# Too small for a job of their own on a cluster; the figures are local too.
localrules:
    all,
    write_config,
    gate_curves,
    settings,
    summarize,
    choose,
    measure,
    judge,


rule all:
    default_target: True
    input:
        expand(f"{FIGURES}/{{figure}}.png", figure=FIGURE_SOURCES),
        expand(f"{FIGURES}/{{table}}.html", table=TABLE_SOURCES),
        f"{RESULTS}/claims.json",
        f"{RESULTS}/environment.json",
