# The configuration, validated once, the plan of its studies, and how rules ask it.
import atexit
import os
import time
from collections import Counter
from importlib.util import find_spec

from snakemake.exceptions import WorkflowError
from snakemake.persistence.file import FilePersistence

from scangan.arms import TRAINING_PATTERN, arm_pattern
from scangan.code_digest import script_digest
from scangan.config import Scans, Volumes, check_config_file, load, sort_keys, validate
from scangan.errors import ConfigError, DataError
from scangan.forecast.dry_run import Job
from scangan.forecast.report import announce
from scangan.ingest.data_record import data_state, record_of
from scangan.ingest.listing import mark_results
from scangan.jobs import check_disk, check_writable, disk_need, has_gpu
from scangan.locks import hold_run
from scangan.memory import job_mb
from scangan.plan import Plan
from scangan.seals import TOLERANCE, bring_back, changed_results, out_of_date

try:
    for each in workflow.configfiles:
        check_config_file(each)
    # Sorted, because Snakemake compares parameters by their text.
    validated = load(sort_keys(validate(config)))
    # As the files name them, so in this order they are done, and stand on the page.
    ORDER = [name for name in config.get("studies", {}) if name in validated.studies]
except ConfigError as error:
    raise WorkflowError(str(error)) from None
if validated.tensorboard and workflow.is_main_process and find_spec("tensorboard") is None:
    print("tensorboard: no such package; no logs are written: pip install 'scangan[tensorboard]'", file=sys.stderr)

config = sort_keys(validated.model_dump(mode="json"))
RESULTS = validated.results
PLAN = Plan(validated, json.loads(Path(workflow.source_path("../../config/scales.json")).read_text()))
OUT_OF_DATE = []  # as the process that plans the run finds it

if workflow.is_main_process:
    for handler in workflow.logger_manager.get_log_handlers():
        handler.results = Path(RESULTS)  # where the plugin that shows the run finds verdicts
    RUN = hold_run()  # until this process ends
    bring_back(RESULTS)
    OUT_OF_DATE = out_of_date(RESULTS)
    for files, why in (
        (changed_results(RESULTS), "changed since it was written"),
        (OUT_OF_DATE, "made of what was to be made anew, and is not there"),
    ):
        for file in files:
            print(f"{file}: {why}; it is made anew", file=sys.stderr)
            # Snakemake's own mark of a file that is not whole; `rerun-incomplete` in profiles/default does the rest.
            FilePersistence()._mark_incomplete(file, None)

# What every reader leaves behind.
COHORT = {
    "images": f"{RESULTS}/{{study}}/cohort/images.zarr.zip",
    "manifest": f"{RESULTS}/{{study}}/cohort/manifest.parquet",
    "rejected": f"{RESULTS}/{{study}}/cohort/rejected.csv",
    "duplicates": f"{RESULTS}/{{study}}/cohort/duplicates.csv",
}

# Whether jobs run here or on a cluster. As rules are read Snakemake does not know its executor yet; but one for a cluster
# needs a number of jobs (--jobs), which on one machine becomes that of cores.
ON_CLUSTER = workflow.is_main_process and workflow.resource_settings.nodes is not None
ON_MACHINE = workflow.is_main_process and not ON_CLUSTER
# Networks that train on the CPUs of this machine: two at a time, for two jobs of half the threads are done sooner than
# one after the other (small networks gain little from more threads, and a job's start keeps one core busy for seconds).
ON_CPU = ON_MACHINE and not has_gpu()
# Beside a GPU two threads a job: they keep it fed, and the other cores do what needs none.
ON_GPU = ON_MACHINE and has_gpu()
# Of this machine: jobs that together would not fit into it do not run at the same time.
MACHINE_MB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
if ON_MACHINE and workflow.global_resources.get("mem_mb").value is None:
    workflow.register_resource("mem_mb", MACHINE_MB)
# One job at a time more than there are cores keeps them busy. With more, those of the first study wait for the last's: the
# toy studies with eight on two cores took 379 s, 115 until the first was done; with three 369 and 60, with two 387 and 50.
if ON_MACHINE and workflow.resource_settings.cores is not None:
    workflow.register_resource("_cores", min(workflow.cores, os.cpu_count() + 1))
if ON_CPU:
    workflow.register_resource("gpu", max(2, workflow.global_resources.get("gpu").value or 0))


def network_threads(wildcards):
    if ON_CPU:
        return max(1, min(workflow.cores, os.cpu_count()) // 2)
    return 2 if ON_GPU else 8


def announce_jobs():
    """At the end of a dry run, for which Snakemake has no hook."""
    if workflow.dryrun and workflow.dag is not None:
        planned = workflow.dag.needrun_jobs(exclude_finished=False)
        jobs = [Job(job.rule.name, dict(job.wildcards_dict)) for job in planned if job.output]
        if jobs:
            cores = min(workflow.resource_settings.cores or os.cpu_count(), os.cpu_count())
            print(announce(jobs, PLAN, cores, has_gpu()), file=sys.stderr)


if workflow.is_main_process:
    atexit.register(announce_jobs)


def volume_threads(wildcards):
    """Of a job that has as much to do on all cores as its network has on the GPU."""
    return workflow.cores if ON_GPU else network_threads(wildcards)


def synthesis_threads(wildcards):
    """Each is a process of one core that draws and edits volumes of its own, with networks of its own on the GPU."""
    return min(workflow.cores, 8) if ON_GPU else network_threads(wildcards)


def memory_of(rule):
    """What a rule's jobs ask for, main memory in MB; on this machine no more than it has."""

    # A profile says `gpu: 0` for nodes that have none.
    on_gpu = not ON_CPU and "gpu" in rule.resources and rule.resources["gpu"].value != 0

    def mem_mb(wildcards, threads):
        # A branch is a study of its own; a cohort, or another hospital's images, are the study's.
        name = wildcards.get("study", "")
        study = PLAN.studies.get(name) or PLAN.studies.get(name.partition("/")[0])
        asked = job_mb(rule.name, study, wildcards, threads, on_gpu)
        return asked if ON_CLUSTER else min(asked, MACHINE_MB)

    return mem_mb


def only(names):
    """The regular expression of a wildcard that stands for these names and no others."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


wildcard_constraints:
    # A cohort of a study of volumes is read like a study, which is then called `ct_sgan/cohorts/lidc`; a branch of a study
    # is one of its own, called `head_ct/fold0`.
    study=only({*PLAN.studies, *PLAN.sources}),
    cohort="[A-Za-z0-9_-]+",
    network="injector|eraser",
    arm=arm_pattern(),
    gan="[A-Za-z0-9_-]+",
    gan_seed=r"\d+",
    training=TRAINING_PATTERN,
    panel="[A-Za-z0-9_-]+",
    label="[A-Za-z0-9_-]+",
    root="[A-Za-z0-9_-]+",
    seed=r"\d+",
    shard=r"\d+",
    image_size=r"\d+",
    batch=r"\d+",


def of_study(method, *wildcard_names, **arguments):
    """What the study's plan answers, asked with some of a job's wildcards: files of an input, or a parameter."""
    return lambda wildcards: getattr(PLAN.studies[wildcards.study], method)(
        *(wildcards[name] for name in wildcard_names), **arguments
    )


def of_source(method, *arguments):
    """The same of a study of images, or of a cohort of volumes."""
    return lambda wildcards: getattr(PLAN.sources[wildcards.study], method)(*arguments)


def facts(*more):
    """What a table or figure says of itself: its study, data, scale, and more."""
    return lambda wildcards: PLAN.studies[wildcards.study].facts(*more)


def data_folder(wildcards):
    """Folder of the raw files: the user's, which `list_data` looks through, or that of the phantom that is rendered.

    The time stamp of a folder says nothing of what lies deeper than its direct entries.
    """
    source = PLAN.sources[wildcards.study]
    return ancient(source.data_root) if source.data == "real" else f"{source.folder}/phantom"


def data_state_of(wildcards):
    """A digest that changes with the files of a data folder; asked for only where they are listed.

    What is wrong with a folder that was not read yet is said here, while the run is planned.
    """
    folder = config["data_roots"][wildcards.root]
    for source in PLAN.sources.values() if workflow.is_main_process else ():
        if source.root == wildcards.root and not os.path.exists(COHORT["manifest"].format(study=source.name)):
            try:
                source.check()
            except DataError as error:
                raise WorkflowError(f"{source.name}: {error}") from None
    return data_state(folder, record_of(wildcards.root, RESULTS))


def data_kind(wildcards):
    return PLAN.sources[wildcards.study].data


def whole(wildcards):
    """The name of the study that a study is a branch of; its own, if it is none."""
    study = PLAN.studies.get(wildcards.study)
    return study.study if study else wildcards.study


def cohort_of(kind):
    """A file of the study's cohort, which its branches share."""
    return lambda wildcards: COHORT[kind].format(study=whole(wildcards))


def setting(key):
    """A setting of the study, or all settings of a section."""
    return lambda wildcards: lookup(dpath=f"studies/{whole(wildcards)}/{key}", within=config)


def settings_of(section, *keys):
    """Some of a section's settings: those that a rule reads."""

    def settings(wildcards):
        found = setting(section)(wildcards)
        return {key: found[key] for key in sorted(keys)}

    return settings


def needs_of(step):
    """What later steps need of a split or mix; asked with `input`, no change of it makes the split or mix again."""
    return lambda wildcards, input: getattr(PLAN.studies[wildcards.study], f"needs_of_{step}")()


def code_of(script):
    """A digest of code, taken only where a job needs it: on a cluster every job reads the whole workflow again."""
    return lambda wildcards: script_digest(script, PLAN.modules_by_name(Path(script).stem, wildcards))


def nodule_network(network):
    """A trained injector or eraser."""
    stem = f"{RESULTS}/{{study}}/nodules/{network}/generator"
    return {f"{network}_weights": f"{stem}.safetensors", f"{network}_description": f"{stem}.json"}


def place_of(study):
    """Of a study, or a branch or cohort of it, in the order of the configuration; those that all share come first."""
    return ORDER.index(Path(study).parts[0]) if study else -1


def urgency(wildcards):
    """Of a job: studies run to their end one after the other, as far as cores allow.

    The scheduler adds up what it can start together, so a study outweighs as many jobs of the next as there are cores.
    Its solver bears no larger numbers: from the sixth study on all are alike.
    """
    return 16 ** max(0, 5 - place_of(wildcards.get("study", "")))


def tell_loggers(jobs):
    """Tell the plugin that shows the run what there is to do, see `snakemake_logger_plugin_scangan`."""
    studies = Counter(Path(name).parts[0] for job in jobs if (name := job.wildcards_dict.get("study")))
    ordered = {name: studies[name] for name in ORDER if name in studies}
    pages = [job.output.page for job in jobs if job.rule.name in ("write_page", "write_study_page")]
    for handler in workflow.logger_manager.get_log_handlers():
        if hasattr(handler, "expect"):
            handler.expect(ordered, len(jobs), pages)


def page_settings(studies):
    """What pages say of studies, in the order of the configuration."""
    return {study.name: study.page_settings() for study in sorted(studies, key=lambda each: place_of(each.name))}


def volumes_to_write(jobs):
    """Bytes that the synthetic volumes take that these jobs will write, with those that are edited."""
    need = 0
    for job in jobs:
        if job.rule.name == "synthesize_volumes":
            study, gan = PLAN.studies[job.wildcards.study], job.wildcards.gan
            shard = study.shard_settings(gan, job.wildcards.gan_seed, job.wildcards.shard)
            need += disk_need(shard["volumes"], study.settings.grid.size, study.versions(gan))
    return need


def forget_others(jobs):
    """Of what is out of date unmark the outputs that these jobs do not make.

    The next plan finds them again: as they are found here or, once what they are made of is there, by its time.
    """
    made = {str(file) for job in jobs for file in job.output}
    for file in set(OUT_OF_DATE) - made:
        workflow.persistence._unmark_incomplete(file)


def check_times(jobs):
    """What is made of a file from the future would seem older than it: Snakemake then gives up after the job has run."""
    future = {
        file
        for job in jobs
        for file in job.input
        if os.path.exists(file) and os.path.getmtime(file) > time.time() + TOLERANCE
    }
    for file in sorted(future):
        raise WorkflowError(
            f"{file}: modified: found a time in the future, allowed: none after now; touch it, or set the clock"
        )


def of_classifier(path):
    """Weights of a classifier, which stay only if the configuration says so."""
    return path if PLAN.keeps_classifiers else temp(path)


def report_table(name):
    """A table as CSV for programs and Markdown for people; the latter stands in the report."""
    stem = f"{RESULTS}/{{study}}/tables/{name}"
    markdown = report(f"{stem}.md", caption=f"../report/{name}.rst", category="{study}", subcategory="tables")
    return [f"{stem}.csv", markdown]


def report_figure(name, folder="figures", caption=None):
    path = f"{RESULTS}/{{study}}/{folder}/{name}.png"
    return report(path, caption=f"../report/{caption or name}.rst", category="{study}", subcategory="figures")
