# The workflow is workflow/Snakefile, where the Snakemake workflow catalog expects it.
include: "workflow/Snakefile"


# What an included file calls its default target does not count.
workflow.default_target = "all"
