from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import numpy as np

    from scangan.config import ImageGan
    from scangan.data.split import draw_images, read_parts
    from scangan.data.store import scale_images
    from scangan.metrics.validation import Validator
    from scangan.models.catalogue import feature_networks, network_options
    from scangan.report.samples import write_trained
    from scangan.report.watch import watch_job
    from scangan.training.adversarial import make_fabric
    from scangan.training.checkpoint import resume_folder
    from scangan.training.conditional import train_conditional_gan

    settings, labels = ImageGan.of_kind(snakemake.params.settings), list(snakemake.params.labels)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    train, held_out = (
        {label: parts[name].select(parts[name].manifest.label == label) for label in labels}
        for name in ("train", "validation")
    )
    train = {label: draw_images(each, settings.training_images, settings.seed) for label, each in train.items()}
    train = {label: scale_images(each, settings.image_size) for label, each in train.items()}
    validate, seen = None, list(train.values())
    if settings.validations:
        held_out = {label: scale_images(each, settings.image_size) for label, each in held_out.items()}
        validate = {
            label: Validator(np.asarray(train[label].images), np.asarray(held_out[label].images)) for label in labels
        }
        seen += held_out.values()
    checksums = [checksum for each in seen for checksum in each.manifest.sha256]
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), checksums)
    fabric = make_fabric(settings.precision, devices=snakemake.resources.get("gpu", 1))
    images = {label: np.asarray(each.images) for label, each in train.items()}
    asked = {"description": "all classes", "validate": validate, "watch": watch_job(snakemake, resume, "all classes")}
    trained = train_conditional_gan(images, settings, fabric, resume, **asked)
    if fabric.is_global_zero:
        write_trained(
            trained,
            snakemake.output,
            resume,
            study=snakemake.wildcards.study,
            gan=snakemake.wildcards.gan,
            gan_seed=int(snakemake.wildcards.gan_seed),
            classes=labels,
            data=parts["train"].manifest.data.iloc[0],
            model=settings.model,
            options=network_options(settings),
            channels=images[labels[0]].shape[1],
            image_size=images[labels[0]].shape[2],
            training_images=sum(map(len, train.values())),
            trained_against=feature_networks(settings.model),
        )
