from scangan.jobs import job

with job(snakemake, snakemake.threads) as log:
    from scangan.data.store import read_image_sets, scale_images
    from scangan.metrics.feature_sets import write_features
    from scangan.metrics.features import extract

    images = read_image_sets(snakemake.input.images, snakemake.input.manifests)
    # Real images are scaled to the size of synthetic ones.
    image_size = snakemake.wildcards.get("image_size")
    images = scale_images(images, image_size and int(image_size))
    extractor, weights = snakemake.params.extractor, next(iter(snakemake.input.weights), None)
    log.info("features of %d images (%s)", len(images), extractor)
    write_features(snakemake.output.features, extract(images.images, extractor, weights), images.manifest.image_id)
