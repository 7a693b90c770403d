from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from scangan.config import Screening
    from scangan.data.images import scale_images
    from scangan.data.split import read_parts
    from scangan.data.store import atomic, read_image_sets
    from scangan.metrics.screening import screen

    settings = Screening.model_validate(snakemake.params.settings)
    synthetic = read_image_sets(snakemake.input.synthetic_images, snakemake.input.synthetic_manifests)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    train, validation = (scale_images(parts[name], synthetic.images.shape[-1]) for name in ("train", "validation"))
    weights, overrule = (next(iter(snakemake.input.get(name)), None) for name in ("weights", "overrule"))
    extractor = snakemake.params.extractor
    verdicts = screen(train, validation, synthetic, settings, extractor, weights, overrule and Path(overrule))
    with atomic(snakemake.output.verdicts) as path:
        verdicts.to_parquet(path, index=False)
