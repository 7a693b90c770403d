from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0]) as log:
    from scangan.data.store import ImageWriter
    from scangan.files import atomic
    from scangan.ingest.readers import READERS

    reader = READERS[snakemake.params.settings["reader"]]
    settings = reader.settings.model_validate(snakemake.params.settings)
    shape = (settings.channels, settings.image_size, settings.image_size)
    with ImageWriter(snakemake.output.images, snakemake.output.manifest, shape) as writer:
        ingested = reader.read(Path(snakemake.input.folder), settings, snakemake.params.data, writer.append)
    for name in ("rejected", "official", "dropped"):
        with atomic(snakemake.output[name]) as path:
            getattr(ingested, name).to_csv(path, index=False)
    log.info("%d rejected (see %s)", len(ingested.rejected), snakemake.output.rejected)
