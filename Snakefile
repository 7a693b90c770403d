import json
import sys

from snakemake.utils import min_version

min_version("9.0")
# Serves this process and, because Snakemake hands on its search path, every job's script, local or on a cluster.
sys.path.insert(0, f"{workflow.basedir}/src")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/files.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/gan.smk"
include: "workflow/rules/classify.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/nodules.smk"
include: "workflow/rules/volumes.smk"


rule all:
    default_target: True
    input:
        [study_targets(study) for study in STUDIES],
        f"{RESULTS}/paper_comparison.csv",


for study in STUDIES:

    rule:
        name:
            study
        input:
            study_targets(study),
