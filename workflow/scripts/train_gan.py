from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from importlib import import_module

    import numpy as np

    from scangan.config import Gan
    from scangan.data.split import draw_images, read_parts, thin_out
    from scangan.data.store import scale_images
    from scangan.metrics.validation import Validator
    from scangan.models.catalogue import feature_networks, network_options
    from scangan.report.samples import write_trained
    from scangan.report.watch import watch_job
    from scangan.training.adversarial import make_fabric
    from scangan.training.checkpoint import resume_folder

    settings = Gan.of_kind(snakemake.params.settings)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    images, held_out = (
        parts[name].select(parts[name].manifest.label == snakemake.wildcards.label) for name in ("train", "validation")
    )
    images = scale_images(draw_images(images, settings.training_images, settings.seed), settings.image_size)
    validate, checksums = None, images.manifest.sha256.tolist()
    held_out = scale_images(held_out, settings.image_size)
    referee = None
    if len(held_out) > 1 and not images.is_of_volumes:  # whose radiomics are of images
        # For its progress alone a few say enough: radiomics of thousands would take minutes.
        both = [each if settings.validations else thin_out(each, 200) for each in (images, held_out)]
        referee = Validator(*(np.asarray(each.images) for each in both))
    if settings.validations:
        validate, referee = referee, None
        checksums += held_out.manifest.sha256.tolist()
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), checksums)
    fabric = make_fabric(settings.precision, devices=snakemake.resources.get("gpu", 1))
    description = f"{snakemake.wildcards.label} GAN"
    watch = watch_job(snakemake, resume, description, referee)
    # That of its kind, in two dimensions or three; see `Plan.modules_by_name`.
    train_gan = import_module(settings.TRAINING).train_gan
    pixels = np.asarray(images.images)
    trained = train_gan(pixels, settings, fabric, resume, description=description, validate=validate, watch=watch)
    if fabric.is_global_zero:
        write_trained(
            trained,
            snakemake.output,
            resume,
            study=snakemake.wildcards.study,
            gan=snakemake.wildcards.gan,
            gan_seed=int(snakemake.wildcards.gan_seed),
            label=snakemake.wildcards.label,
            data=images.manifest.data.iloc[0],
            model=settings.model,
            options=network_options(settings),
            channels=images.images.shape[1],
            image_size=images.images.shape[2],
            training_images=len(images),
            trained_against=feature_networks(settings.model, **network_options(settings)),
        )
