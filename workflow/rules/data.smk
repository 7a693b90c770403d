# From raw images, or the phantom that stands in for them, to a cohort and its split.


rule render_phantom:
    output:
        folder=directory(f"{RESULTS}/{{study}}/phantom"),
    log:
        f"{RESULTS}/{{study}}/logs/render_phantom.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/render_phantom.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=of_source("phantom_settings"),
    script:
        "../scripts/render_phantom.py"


# Looked through while the run is planned, and read once, for what a change is: see `scangan.ingest.listing`.
rule list_data:
    input:
        folder=lambda wildcards: ancient(config["data_roots"][wildcards.root]),
    output:
        listing=f"{RESULTS}/data/{{root}}.json",
    log:
        f"{RESULTS}/logs/list_data/{{root}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/list_data/{{root}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        state=data_state_of,
    script:
        "../scripts/list_data.py"


rule ingest_images:
    input:
        folder=data_folder,
        listing=of_source("listing"),
    output:
        **COHORT,
        official=f"{RESULTS}/{{study}}/cohort/official_split.csv",
        dropped=f"{RESULTS}/{{study}}/cohort/dropped_slices.csv",
        notes=f"{RESULTS}/{{study}}/cohort/notes.txt",
    log:
        f"{RESULTS}/{{study}}/logs/ingest_images.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/ingest_images.tsv"
    wildcard_constraints:
        study=only(PLAN.image_sources),
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=of_source("reader_settings"),
        duplicates=of_source("duplicates"),
        data=data_kind,
    script:
        "../scripts/ingest_images.py"


rule index_scans:
    input:
        folder=data_folder,
        listing=of_source("listing"),
        negatives=of_source("negatives"),
    output:
        index=f"{RESULTS}/{{study}}/scans/index.parquet",
        rejected=f"{RESULTS}/{{study}}/scans/index_rejected.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/index_scans.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/index_scans.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("data", "batches", "identity", "modality", "negatives", "patient_from", "scans"),
        data=data_kind,
    script:
        "../scripts/index_scans.py"


rule ingest_scans:
    input:
        folder=data_folder,
        listing=of_source("listing"),
        index=rules.index_scans.output.index,
        annotations=of_source("annotation_files"),
    output:
        volumes=f"{RESULTS}/{{study}}/scans/batch{{batch}}.zarr.zip",
        scans=f"{RESULTS}/{{study}}/scans/batch{{batch}}_scans.parquet",
        nodules=f"{RESULTS}/{{study}}/scans/batch{{batch}}_nodules.parquet",
        rejected=f"{RESULTS}/{{study}}/scans/batch{{batch}}_rejected.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/ingest_scans/batch{{batch}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/ingest_scans/batch{{batch}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of(
            "data", "annotations", "antialias", "hounsfield_offset", "min_slices", "modality", "spacing_mm"
        ),
    script:
        "../scripts/ingest_scans.py"


rule gather_scans:
    input:
        unpack(of_source("batch_files")),
        index_rejected=rules.index_scans.output.rejected,
    output:
        scans=f"{RESULTS}/{{study}}/scans/scans.csv",
        nodules=f"{RESULTS}/{{study}}/scans/nodules.csv",
        rejected=f"{RESULTS}/{{study}}/scans/rejected.csv",
        duplicates=f"{RESULTS}/{{study}}/scans/duplicates.csv",
    log:
        f"{RESULTS}/{{study}}/logs/gather_scans.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/gather_scans.tsv"
    wildcard_constraints:
        study=only(PLAN.sources_of(Scans, Volumes)),
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("data", "max_rejected", "require_nodules"),
        duplicates=of_source("duplicates"),
    script:
        "../scripts/gather_scans.py"


rule cut_slices:
    input:
        volumes=of_source("volumes"),
        scans=rules.gather_scans.output.scans,
        rejected=rules.gather_scans.output.rejected,
        duplicates=rules.gather_scans.output.duplicates,
    output:
        **COHORT,
    log:
        f"{RESULTS}/{{study}}/logs/cut_slices.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/cut_slices.tsv"
    wildcard_constraints:
        study=only(PLAN.sources_of(Scans)),
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("data", "channels", "image_size", "label", "slices_per_scan", "window"),
        duplicates=of_source("duplicates"),
    script:
        "../scripts/cut_slices.py"


rule list_volumes:
    input:
        scans=of_study("of_every_source", file="scans/scans.csv"),
        rejected=of_study("of_every_source", file="scans/rejected.csv"),
        duplicates=of_study("of_every_source", file="scans/duplicates.csv"),
    output:
        manifest=COHORT["manifest"],
        rejected=COHORT["rejected"],
        duplicates=COHORT["duplicates"],
    log:
        f"{RESULTS}/{{study}}/logs/list_volumes.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/list_volumes.tsv"
    wildcard_constraints:
        study=only(PLAN.volumes),
    conda:
        "../../envs/scangan.yaml"
    params:
        cohorts=of_study("cohorts"),
    script:
        "../scripts/list_volumes.py"


rule survey_lidc:
    output:
        counts=f"{RESULTS}/lidc/nodules_per_scan.csv",
        nodules=f"{RESULTS}/lidc/nodules.csv",
    log:
        f"{RESULTS}/logs/survey_lidc.log",
    benchmark:
        f"{RESULTS}/benchmarks/survey_lidc.tsv"
    conda:
        "../../envs/scangan.yaml"
    script:
        "../scripts/survey_lidc.py"


rule split_cohort:
    input:
        manifest=COHORT["manifest"],
        rejected=COHORT["rejected"],
        duplicates=COHORT["duplicates"],
        official=of_study("official_split"),
        own=of_study("own_split"),
    output:
        split=f"{RESULTS}/{{study}}/split/split.csv",
    log:
        f"{RESULTS}/{{study}}/logs/split_cohort.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/split_cohort.tsv"
    wildcard_constraints:
        study=only(set(PLAN.studies) - set(PLAN.branches)),
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=lookup(dpath="studies/{study}/split", within=config),
        needs=needs_of("split"),
    script:
        "../scripts/split_cohort.py"


rule split_branch:
    input:
        split=lambda wildcards: rules.split_cohort.output.split.format(study=whole(wildcards)),
    output:
        split=f"{RESULTS}/{{study}}/split/split.csv",
    log:
        f"{RESULTS}/{{study}}/logs/split_branch.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/split_branch.tsv"
    wildcard_constraints:
        study=only(PLAN.branches),
    conda:
        "../../envs/scangan.yaml"
    params:
        branch=of_study("branch_settings"),
        needs=needs_of("split"),
    script:
        "../scripts/split_branch.py"


# Before hours of training: what another data set, or a column, lacks is said early.
rule check_external:
    input:
        unpack(of_study("external_cohort")),
        images=COHORT["images"],
        manifest=COHORT["manifest"],
    output:
        tested=f"{RESULTS}/{{study}}/external/tested.csv",
        left_out=f"{RESULTS}/{{study}}/external/left_out.csv",
    log:
        f"{RESULTS}/{{study}}/logs/check_external.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/check_external.tsv"
    wildcard_constraints:
        study=only(set(PLAN.studies) - set(PLAN.branches)),
    priority: 1
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=of_study("external_settings"),
    script:
        "../scripts/check_external.py"


rule read_subgroups:
    input:
        folder=data_folder,
        listing=of_source("listing"),
        manifest=COHORT["manifest"],
    output:
        subgroups=f"{RESULTS}/{{study}}/cohort/subgroups.csv",
    log:
        f"{RESULTS}/{{study}}/logs/read_subgroups.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/read_subgroups.tsv"
    wildcard_constraints:
        study=only(set(PLAN.studies) - set(PLAN.branches)),
    priority: 1
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=of_source("reader_settings"),
        column=of_study("subgroups_column"),
    script:
        "../scripts/read_subgroups.py"
