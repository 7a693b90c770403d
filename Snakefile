# The workflow itself is workflow/Snakefile, where the Snakemake workflow catalogue looks for it.
include: "workflow/Snakefile"


workflow.default_target = "all"  # which an included file cannot say
