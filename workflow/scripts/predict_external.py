from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.data.external import EXTERNAL, select_tested
    from scangan.data.store import read_image_set
    from scangan.files import atomic
    from scangan.training.supervised import predict_parts, read_classifier

    settings = dict(snakemake.params.settings)
    batch_size, positive, classes = settings.pop("batch_size"), settings.pop("positive"), settings["classes"]
    tested = pd.read_csv(snakemake.input.tested, dtype=str, keep_default_na=False)
    external = read_image_set(snakemake.input.external_images, snakemake.input.external_manifest)
    images = select_tested(external, tested)
    model = read_classifier(Path(snakemake.input.weights), *images.images.shape[1:3], **settings)
    with atomic(snakemake.output.predictions) as path:
        predict_parts(model, {EXTERNAL: images}, batch_size, positive, classes).to_parquet(path, index=False)
