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
        settings=lookup(dpath="studies/{study}/phantom", within=config),
        code=code_digest("scangan.data.phantom"),
    script:
        "../scripts/render_phantom.py"


rule ingest_images:
    input:
        folder=data_folder,
    output:
        images=f"{RESULTS}/{{study}}/cohort/images.zarr.zip",
        manifest=f"{RESULTS}/{{study}}/cohort/manifest.parquet",
        rejected=f"{RESULTS}/{{study}}/cohort/rejected.csv",
    log:
        f"{RESULTS}/{{study}}/logs/ingest_images.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/ingest_images.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=lookup(dpath="studies/{study}/data", within=config),
        data=data_kind,
        code=code_digest("scangan.data.images", "scangan.data.store"),
    script:
        "../scripts/ingest_images.py"


rule split_cohort:
    input:
        manifest=rules.ingest_images.output.manifest,
        rejected=rules.ingest_images.output.rejected,
        own=own_file("split", "file"),
    output:
        split=f"{RESULTS}/{{study}}/split/split.csv",
    log:
        f"{RESULTS}/{{study}}/logs/split_cohort.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/split_cohort.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=lookup(dpath="studies/{study}/split", within=config),
        code=code_digest("scangan.data.split"),
    script:
        "../scripts/split_cohort.py"
