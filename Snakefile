import json
import sys

from snakemake.resources import Resources
from snakemake.utils import min_version

min_version("9.0")
# This folder's code, and not what is installed: in this process and, as their environment, in the scripts of all jobs,
# for Snakemake hands on its search path behind that of the installed packages.
sys.path.insert(0, f"{workflow.basedir}/src")

from scangan.jobs import import_from_here

import_from_here(f"{workflow.basedir}/src")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/gan.smk"
include: "workflow/rules/classify.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/nodules.smk"
include: "workflow/rules/volumes.smk"


onstart:
    # Before the first job, and not when the disk is full in the middle of the night.
    check_times(workflow.dag.needrun_jobs())
    need = volumes_to_write(workflow.dag.needrun_jobs())
    if need:
        print(f"synthetic volumes will take up to {need / 1e9:.1f} GB in {RESULTS}", file=sys.stderr)
    try:
        check_writable(RESULTS)
        check_disk(RESULTS, need)
    except DataError as error:
        raise WorkflowError(str(error)) from None
    mark_results(RESULTS)
    if workflow.local_exec:
        # Snakemake 9.27 looks for new jobs once a second more with every job that ended: after a hundred, half a core
        # is busy with that alone. Without its limit of jobs a second, which is meant for clusters, it does not.
        workflow.scheduler.job_rate_limiter = None


# Every job carries the digest of the code that its script runs, so that a changed line reruns what it decides, and
# nothing else. Snakemake itself would look at the script's time stamp alone, see profiles/default.
for each in workflow.rules:
    if each.script:
        each.set_params(code=code_of(f"{workflow.basedir}/workflow/scripts/{Path(each.script).name}"))
        # Its main memory follows from its settings; --set-resources, and a profile's, overrule it.
        if "mem_mb" not in workflow.resource_settings.overwrite_resources.get(each.name, {}):
            each.resources.update(Resources.from_mapping({"mem_mb": memory_of(each)}))


rule all:
    default_target: True
    input:
        [study.targets() for study in PLAN.configured],
        f"{RESULTS}/paper_comparison.csv",


for study in PLAN.configured:

    rule:
        name:
            study.name
        input:
            study.targets(),
