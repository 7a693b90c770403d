from scangan.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from scangan.config import Fidelity
    from scangan.data.images import scale_images
    from scangan.data.split import read_parts
    from scangan.data.store import ImageSet, atomic, read_image_sets
    from scangan.metrics.generators import evaluate_generators

    settings = Fidelity.model_validate(snakemake.params.settings)
    synthetic = read_image_sets(snakemake.input.synthetic_images, snakemake.input.synthetic_manifests)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    parts = {name: scale_images(images, synthetic.images.shape[-1]) for name, images in parts.items()}
    held_out = ImageSet.concatenate([parts["validation"], parts["test"]])
    tables = evaluate_generators(parts["train"], held_out, synthetic, snakemake.wildcards.gan, settings)
    for table, target in zip(tables, (snakemake.output.fidelity, snakemake.output.copies), strict=True):
        with atomic(target) as path:
            table.to_csv(path, index=False)
