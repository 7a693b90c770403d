from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.data.store import read_image_sets, scale_images
    from scangan.files import atomic
    from scangan.training.supervised import against_the_rest, predict, read_classifier, read_published_judge

    settings = dict(snakemake.params.settings)
    batch_size, image_size = settings.pop("batch_size"), settings.pop("image_size")
    images = read_image_sets(snakemake.input.synthetic_images, snakemake.input.synthetic_manifests)
    images = scale_images(images, image_size)
    if "outputs" in settings:
        judge = read_published_judge(Path(snakemake.input.weights), image_size, **settings)
    else:
        positive, classes = settings.pop("positive"), settings["classes"]
        judge = read_classifier(Path(snakemake.input.weights), *images.images.shape[1:3], **settings)
        judge = against_the_rest(judge, classes, positive) if classes else judge
    table = images.manifest[["image_id", "synthesis_seed"]].assign(probability=predict(judge, images, batch_size))
    with atomic(snakemake.output.judgements) as path:
        table.assign(gan=snakemake.wildcards.gan).to_parquet(path, index=False)
