from scangan.jobs import job

with job(snakemake) as log:
    import pandas as pd

    from scangan.config import Duplicates, Slicing
    from scangan.data.duplicates import read_duplicates, settle_images
    from scangan.data.scan_store import cut_slices, read_scan_table, read_scans
    from scangan.data.store import ImageWriter
    from scangan.files import atomic
    from scangan.rejected import read_rejected

    settings = Slicing.model_validate(snakemake.params.settings)
    shape = (settings.channels, settings.image_size, settings.image_size)
    scans = read_scan_table(snakemake.input.scans)
    with ImageWriter(snakemake.output.images, snakemake.output.manifest, shape) as writer:
        for scan, hounsfield, lungs, _ in read_scans(snakemake.input.volumes, scans):
            writer.append(*cut_slices(hounsfield, lungs, scan, settings))
        copies = Duplicates.model_validate(snakemake.params.duplicates)
        settled = settle_images(writer.manifest, writer.images, copies)
        writer.keep(settled.manifest)
    tables = {
        "rejected": pd.concat([read_rejected(snakemake.input.rejected), settled.rejected], ignore_index=True),
        "duplicates": pd.concat([read_duplicates(snakemake.input.duplicates), settled.duplicates], ignore_index=True),
    }
    for name, table in tables.items():
        with atomic(snakemake.output[name]) as path:
            table.to_csv(path, index=False)
    log.info("slices of %d scans", len(scans))
