from pathlib import Path

from scangan.jobs import job

with job(snakemake) as log:
    import pandas as pd

    from scangan.config import Duplicates
    from scangan.data.duplicates import settle_images
    from scangan.data.store import ImageWriter
    from scangan.files import atomic
    from scangan.ingest.readers import READERS

    reader = READERS[snakemake.params.settings["reader"]]
    settings = reader.settings.model_validate(snakemake.params.settings)
    shape = (settings.channels, *[settings.image_size] * settings.DIMENSIONS)
    with ImageWriter(snakemake.output.images, snakemake.output.manifest, shape) as writer:
        ingested = reader.read(Path(snakemake.input.folder), settings, snakemake.params.data, writer.append)
        copies = Duplicates.model_validate(snakemake.params.duplicates)
        settled = settle_images(writer.manifest, writer.images, copies)
        writer.keep(settled.manifest)
    tables = {
        "rejected": pd.concat([ingested.rejected, settled.rejected], ignore_index=True),
        "duplicates": settled.duplicates,
        "official": ingested.official,
        "dropped": ingested.dropped,
    }
    for name, table in tables.items():
        with atomic(snakemake.output[name]) as path:
            table.to_csv(path, index=False)
    with atomic(snakemake.output.notes) as path:
        path.write_text("".join(f"{note}\n" for note in ingested.notes))
    log.info("%d rejected or left out (see %s)", len(tables["rejected"]), snakemake.output.rejected)
