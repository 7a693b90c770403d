# Nodules put into scans and taken out of them: the networks, how good they are, and the cohorts mixed by them.
VOIS = {
    f"{kind}_{file}": f"{RESULTS}/{{study}}/nodules/vois/{kind}.{ending}"
    for kind in ("nodule", "healthy")
    for file, ending in (("voxels", "zarr.zip"), ("table", "parquet"))
}

# Of the cohort whose nodules are known: how many, and how large, injected ones are.
ANNOTATED = {f"annotated_{kind}": of_study("annotated", file=f"{kind}.csv") for kind in ("scans", "nodules")}
# A batch of scans on the grid on which nodules are edited.
BATCH_ON_GRID = {
    kind: of_study("batch_on_grid", "cohort", "batch", ending=ending)
    for kind, ending in (("volumes", ".zarr.zip"), ("scans", "_scans.parquet"), ("nodules", "_nodules.parquet"))
}


rule cut_vois:
    input:
        **ANNOTATED,
        volumes=of_study("on_grid", ending=".zarr.zip"),
        scans=of_study("on_grid", ending="_scans.parquet"),
        nodules=of_study("on_grid", ending="_nodules.parquet"),
        cohorts=of_study("scan_table_of_each_batch"),
    output:
        **VOIS,
        rejected=f"{RESULTS}/{{study}}/nodules/vois/rejected.csv",
    log:
        f"{RESULTS}/{{study}}/logs/cut_vois.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/cut_vois.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=lookup(dpath="studies/{study}/nodules/voi", within=config),
    script:
        "../scripts/cut_vois.py"


rule train_nodule_gan:
    input:
        **VOIS,
        split=rules.split_cohort.output.split,
        injector=of_study("injector_of", "network"),
    output:
        weights=f"{RESULTS}/{{study}}/nodules/{{network}}/generator.safetensors",
        description=f"{RESULTS}/{{study}}/nodules/{{network}}/generator.json",
        history=f"{RESULTS}/{{study}}/nodules/{{network}}/history.csv",
        samples=f"{RESULTS}/{{study}}/nodules/{{network}}/samples.png",
    log:
        f"{RESULTS}/{{study}}/logs/train_nodule_gan/{{network}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_nodule_gan/{{network}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=lookup(dpath="studies/{study}/nodules/{network}", within=config),
        voi=of_study("nodule_training", "network"),
    script:
        "../scripts/train_nodule_gan.py"


rule measure_nodules:
    input:
        **VOIS,
        **nodule_network("injector"),
        **nodule_network("eraser"),
        split=rules.split_cohort.output.split,
        rejected=rules.cut_vois.output.rejected,
        weights=of_study("feature_weights"),
    output:
        eraser=report_table("eraser"),
        injector=report_table("injector"),
        vois=report_figure("vois"),
        diameters=report_figure("diameters"),
    log:
        f"{RESULTS}/{{study}}/logs/measure_nodules.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/measure_nodules.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=settings_of("nodules", "annotated", "voi"),
        evaluation=settings_of("evaluation", "bootstrap", "seed"),
        fidelity=lookup(dpath="studies/{study}/fidelity", within=config),
        study=facts(),
    script:
        "../scripts/measure_nodules.py"


rule choose_mix:
    input:
        scans=of_study("of_every_source", file="scans/scans.csv"),
        split=rules.split_cohort.output.split,
    output:
        mix=f"{RESULTS}/{{study}}/nodules/mix.csv",
    log:
        f"{RESULTS}/{{study}}/logs/choose_mix.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/choose_mix.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("nodules", "mix_seed"),
        needs=needs_of("mix"),
    script:
        "../scripts/choose_mix.py"


rule edit_scans:
    input:
        **nodule_network("injector"),
        **nodule_network("eraser"),
        **BATCH_ON_GRID,
        **ANNOTATED,
        cohort=f"{RESULTS}/{{study}}/cohorts/{{cohort}}/scans/scans.csv",
        mix=rules.choose_mix.output.mix,
    output:
        volumes=f"{RESULTS}/{{study}}/nodules/mixed/{{cohort}}/batch{{batch}}.zarr.zip",
        nodules=f"{RESULTS}/{{study}}/nodules/mixed/{{cohort}}/batch{{batch}}_nodules.parquet",
        done=f"{RESULTS}/{{study}}/nodules/mixed/{{cohort}}/batch{{batch}}_done.parquet",
        rejected=f"{RESULTS}/{{study}}/nodules/mixed/{{cohort}}/batch{{batch}}_rejected.parquet",
        places=f"{RESULTS}/{{study}}/nodules/mixed/{{cohort}}/batch{{batch}}_places.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/edit_scans/{{cohort}}/batch{{batch}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/edit_scans/{{cohort}}/batch{{batch}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        settings=settings_of("nodules", "mix_seed", "placement", "sham", "voi"),
    script:
        "../scripts/edit_scans.py"


rule tabulate_mix:
    input:
        mix=rules.choose_mix.output.mix,
        nodules=of_study("mixed", ending="_nodules.parquet"),
        done=of_study("mixed", ending="_done.parquet"),
        rejected=of_study("mixed", ending="_rejected.parquet"),
        places=of_study("mixed", ending="_places.parquet"),
        before=of_study("on_grid", ending=".zarr.zip"),
        after=of_study("mixed", ending=".zarr.zip"),
        scans=of_study("on_grid", ending="_scans.parquet"),
    output:
        mix=report_table("mix"),
        scanner=report_table("scanner"),
        figure=report_figure("edits"),
        done=f"{RESULTS}/{{study}}/nodules/mixed/done.csv",
        rejected=f"{RESULTS}/{{study}}/nodules/mixed/rejected.csv",
        labels=f"{RESULTS}/{{study}}/nodules/mixed/labels.csv",
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_mix.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_mix.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        evaluation=settings_of("evaluation", "bootstrap", "seed"),
        negatives=of_study("said_of_negatives"),
        study=facts(),
    script:
        "../scripts/tabulate_mix.py"


rule edit_own_scans:
    input:
        **nodule_network("injector"),
        **nodule_network("eraser"),
        folder=lambda wildcards: ancient(PLAN.studies[wildcards.study].own_scans()),
        listing=of_study("listing_of_own_scans"),
        edits=of_study("edits_file"),
    output:
        folder=directory(f"{RESULTS}/{{study}}/nodules/edited"),
    log:
        f"{RESULTS}/{{study}}/logs/edit_own_scans.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/edit_own_scans.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("own_edit_settings"),
    script:
        "../scripts/edit_own_scans.py"
