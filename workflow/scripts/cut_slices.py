from scangan.jobs import job

with job(snakemake.log[0]) as log:
    from scangan.config import Slicing
    from scangan.data.scan_store import cut_slices, read_scan_table, read_scans
    from scangan.data.store import ImageWriter

    settings = Slicing.model_validate(snakemake.params.settings)
    shape = (settings.channels, settings.image_size, settings.image_size)
    scans = read_scan_table(snakemake.input.scans)
    with ImageWriter(snakemake.output.images, snakemake.output.manifest, shape) as writer:
        for scan, hounsfield, lungs, _ in read_scans(snakemake.input.volumes, scans):
            writer.append(*cut_slices(hounsfield, lungs, scan, settings))
    log.info("slices of %d scans", len(scans))
