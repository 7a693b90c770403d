from scangan.jobs import job

with job(snakemake):
    from scangan.data.split import read_parts
    from scangan.data.store import read_image_sets, scale_images
    from scangan.facts import Facts
    from scangan.report.gan_figures import images_by_class, side_by_side

    columns = {}
    for gan in snakemake.params.gans["gans"]:
        images, manifests = (
            [path for path in paths if f"/synthetic/{gan}/" in path]
            for paths in (snakemake.input.synthetic_images, snakemake.input.synthetic_manifests)
        )
        columns[gan] = read_image_sets(images, manifests, hold=False)
    largest = max(images.images.shape[-1] for images in columns.values())
    cohort = snakemake.input.images, snakemake.input.manifest, snakemake.input.split
    real = read_parts(*cohort, hold=False)["train"]
    columns = {"real": scale_images(real, largest), **columns}
    columns = {title: images_by_class(images) for title, images in columns.items()}
    side_by_side(columns, snakemake.output.panel, Facts(**snakemake.params.study))
