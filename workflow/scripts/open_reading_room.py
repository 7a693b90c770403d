from scangan.jobs import job

with job(snakemake) as log:
    from scangan.data.screened import read_screened
    from scangan.data.split import read_parts
    from scangan.data.store import ImageSet, scale_images
    from scangan.facts import Facts
    from scangan.report.reading_room import draw_cases, write_reading_room

    settings, labels = snakemake.params.settings, snakemake.params.labels
    # Of all real images: readers have not seen any, and test images alone are often too few.
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split, hold=False)
    files = [snakemake.input[name] for name in ("synthetic_images", "synthetic_manifests", "verdicts")]
    synthetic = read_screened(*files, hold=False)
    real = scale_images(ImageSet.concatenate(list(parts.values())), synthetic.images.shape[-1])
    cases = draw_cases(real, synthetic, settings["images"], labels, settings["seed"])
    write_reading_room(snakemake.output.page, cases, Facts(**snakemake.params.study), settings["seed"], labels)
    log.info("%d images; open %s in a browser", len(cases), snakemake.output.page)
