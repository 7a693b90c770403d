from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0]) as log:
    from scangan.config import Brats
    from scangan.data.store import ImageWriter, atomic
    from scangan.ingest.brats import read_brats

    settings = Brats.model_validate(snakemake.params.settings)
    shape = (settings.channels, settings.image_size, settings.image_size)
    with ImageWriter(snakemake.output.images, snakemake.output.manifest, shape) as writer:
        tables = read_brats(Path(snakemake.input.folder), settings, snakemake.params.data, writer.append)
    for table, target in zip(tables, (snakemake.output.rejected, snakemake.output.dropped), strict=True):
        with atomic(target) as path:
            table.to_csv(path, index=False)
    log.info("%d patients rejected (see %s)", len(tables[0]), snakemake.output.rejected)
