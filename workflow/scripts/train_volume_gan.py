from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.config import VolumeGan
    from scangan.data.volume_set import read_volume_set, split_volumes
    from scangan.models.catalogue import feature_networks, network_options
    from scangan.report.samples import write_trained
    from scangan.report.watch import watch_job
    from scangan.training.adversarial import make_fabric
    from scangan.training.checkpoint import resume_folder
    from scangan.training.volumes import train_volume_gan

    settings, window = VolumeGan.of_kind(snakemake.params.settings), list(snakemake.params.window)
    known = split_volumes(read_volume_set(snakemake.input.volumes, snakemake.input.manifests), snakemake.input.split)
    volumes = known["train"]
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), volumes.manifest.sha256)
    fabric = make_fabric(settings.precision, devices=snakemake.resources.get("gpu", 1))
    name = snakemake.wildcards.gan
    asked = {"description": name, "watch": watch_job(snakemake, resume, name)}
    trained = train_volume_gan(volumes.read(range(len(volumes))), window, settings, fabric, resume, **asked)
    if fabric.is_global_zero:
        write_trained(
            trained,
            snakemake.output,
            resume,
            study=snakemake.wildcards.study,
            gan=name,
            gan_seed=int(snakemake.wildcards.gan_seed),
            data=" and ".join(sorted(volumes.manifest.data.unique())),
            model=settings.model,
            options=network_options(settings),
            channels=1,
            image_size=settings.image_size or volumes.size,
            size=volumes.size,
            spacing_mm=float(volumes.manifest.spacing_mm.iloc[0]),
            window=window,
            training_volumes=len(volumes),
            trained_against=feature_networks(settings.model, **network_options(settings)),
        )
