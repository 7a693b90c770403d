from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.config import VolumeGan
    from scangan.data.volume_set import read_volume_set, split_volumes
    from scangan.files import atomic
    from scangan.models.catalogue import feature_networks, network_options, write_generator
    from scangan.report.samples import write_sample_grid
    from scangan.training.adversarial import make_fabric
    from scangan.training.checkpoint import CheckpointStore, resume_folder
    from scangan.training.volumes import train_volume_gan

    settings, window = VolumeGan.of_kind(snakemake.params.settings), list(snakemake.params.window)
    known = split_volumes(read_volume_set(snakemake.input.volumes, snakemake.input.manifests), snakemake.input.split)
    volumes = known["train"]
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), volumes.manifest.sha256)
    fabric = make_fabric(settings.precision, devices=snakemake.resources.get("gpu", 1))
    name = snakemake.wildcards.gan
    trained = train_volume_gan(volumes.read(range(len(volumes))), window, settings, fabric, resume, description=name)
    if fabric.is_global_zero:
        facts = {
            "study": snakemake.wildcards.study,
            "gan": name,
            "gan_seed": int(snakemake.wildcards.gan_seed),
            "data": " and ".join(sorted(volumes.manifest.data.unique())),
            "model": settings.model,
            "options": network_options(settings),
            "channels": 1,
            "image_size": settings.image_size or volumes.size,
            "size": volumes.size,
            "spacing_mm": float(volumes.manifest.spacing_mm.iloc[0]),
            "window": window,
            "training_volumes": len(volumes),
            "steps": trained.steps,
            "trained_against": feature_networks(settings.model, **network_options(settings)),
        }
        write_generator(Path(snakemake.output.weights), Path(snakemake.output.description), trained.weights, **facts)
        with atomic(snakemake.output.history) as path:
            trained.history.to_csv(path, index=False)
        write_sample_grid(trained.samples, Path(snakemake.output.samples))
        CheckpointStore(resume).remove()
