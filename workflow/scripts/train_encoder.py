from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.config import Encoder
    from scangan.data.split import read_parts
    from scangan.data.store import ImageSet, scale_images
    from scangan.metrics.encoder import half_of_patients, train_encoder, write_encoder
    from scangan.training.checkpoint import CheckpointStore, resume_folder

    settings = Encoder.model_validate(snakemake.params.settings)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    held_out = ImageSet.concatenate([parts["validation"], parts["test"]])
    images = half_of_patients(parts["train"], held_out, settings.seed)
    images = scale_images(images, int(snakemake.wildcards.image_size))
    resume = resume_folder(snakemake.output.encoder, dict(snakemake.params.items()), images.manifest.sha256)
    write_encoder(snakemake.output.encoder, train_encoder(images, settings.steps, settings.seed, resume))
    CheckpointStore(resume).remove()
