from pathlib import Path

from scangan.jobs import job

MOST_AT_ONCE = 32  # images that the classifier is shown, on a CPU

with job(snakemake, snakemake.threads):
    from scangan.config import Classical, Embedding
    from scangan.data.screened import read_screened
    from scangan.data.split import read_parts
    from scangan.data.store import ImageSet, scale_images
    from scangan.facts import Facts
    from scangan.files import atomic
    from scangan.metrics.embedding import draw_categories, map_spaces, penultimate, transform_one
    from scangan.report.gan_figures import side_by_side
    from scangan.training.supervised import read_classifier

    settings = Embedding.model_validate(snakemake.params.settings["embedding"])
    classical = Classical.model_validate(snakemake.params.settings["classical"])
    classifier = dict(snakemake.params.settings["classifier"])
    batch_size = min(classifier.pop("batch_size"), MOST_AT_ONCE)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split, hold=False)
    # The classifier has not seen them: its space shows what it makes of new images.
    held_out = ImageSet.concatenate([parts["validation"], parts["test"]])
    files = [snakemake.input[name] for name in ("synthetic_images", "synthetic_manifests", "verdicts")]
    synthetic = scale_images(read_screened(*files, hold=False), held_out.images.shape[-1])
    drawn = draw_categories(held_out, synthetic, classical, settings.each, settings.seed)
    model = read_classifier(Path(snakemake.input.weights), *drawn.images.shape[1:3], **classifier)
    spaces = {"classifier": penultimate(model, drawn.images, batch_size), "raw images": drawn.images}
    tables = map_spaces(spaces, drawn.manifest, settings.perplexity, settings.iterations, settings.seed)
    versions = transform_one(held_out, classical, settings.seed)
    side_by_side(versions, snakemake.output.classical, Facts(**snakemake.params.study))
    with atomic(snakemake.output.points) as points, atomic(snakemake.output.separation) as separation:
        tables[0].to_parquet(points, index=False)
        tables[1].to_csv(separation, index=False)
