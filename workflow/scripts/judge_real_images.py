from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.data.split import read_parts
    from scangan.data.store import scale_images
    from scangan.files import atomic
    from scangan.training.supervised import predict_parts, read_published_judge

    settings = dict(snakemake.params.settings)
    batch_size, image_size = settings.pop("batch_size"), settings["image_size"]
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    judge = read_published_judge(Path(snakemake.input.weights), **settings)
    tested = {"test": scale_images(parts["test"], image_size)}
    with atomic(snakemake.output.predictions) as path:
        predict_parts(judge, tested, batch_size).to_parquet(path, index=False)
