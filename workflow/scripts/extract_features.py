from scangan.jobs import job

with job(snakemake, snakemake.threads) as log:
    from scangan.data.store import read_image_sets, scale_images
    from scangan.metrics.feature_sets import write_features
    from scangan.metrics.features import extract, extract_volumes

    images = read_image_sets(snakemake.input.images, snakemake.input.manifests)
    # Real images are scaled to the size of synthetic ones.
    image_size = snakemake.wildcards.get("image_size")
    images = scale_images(images, image_size and int(image_size))
    settings, weights = dict(snakemake.params.settings), next(iter(snakemake.input.weights), None)
    extractor, positions = settings["extractor"], settings.get("positions")
    log.info("features of %d images (%s)", len(images), extractor)
    if positions is None:
        features = extract(images.images, extractor, weights)
    else:
        features = extract_volumes(images.images, positions, extractor, weights)
    write_features(snakemake.output.features, features, images.manifest.image_id)
