from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.data.store import ImageWriter
    from scangan.models.catalogue import image_shape, read_generator
    from scangan.synthesis.images import synthesize

    settings = dict(snakemake.params.settings)
    weights, description = Path(snakemake.input.weights), Path(snakemake.input.description)
    label = snakemake.wildcards.label
    generator, facts = read_generator(weights, description, settings.pop("image_size"), label)
    facts["gan"] = settings.pop("name")
    shape = image_shape(facts["model"], facts["channels"], facts["image_size"])
    with ImageWriter(snakemake.output.images, snakemake.output.manifest, shape) as writer:
        for images, rows in synthesize(generator, facts, **settings):
            writer.append(images, rows)
