from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0]) as log:
    from scangan.config import Images
    from scangan.data.store import atomic, write_image_set
    from scangan.ingest.images import ingest_images

    settings = Images.model_validate(snakemake.params.settings)
    cohort, rejected, official = ingest_images(Path(snakemake.input.folder), settings, snakemake.params.data)
    write_image_set(snakemake.output.images, snakemake.output.manifest, cohort)
    with atomic(snakemake.output.rejected) as path:
        rejected.to_csv(path, index=False)
    with atomic(snakemake.output.official) as path:
        official.to_csv(path, index=False)
    log.info("%d images, %d rejected (see %s)", len(cohort), len(rejected), snakemake.output.rejected)
