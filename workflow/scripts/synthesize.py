from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from scangan.data.store import ImageWriter
    from scangan.models.catalogue import find_model, read_generator
    from scangan.synthesis.images import synthesize

    generator, facts = read_generator(Path(snakemake.input.weights), Path(snakemake.input.description))
    size = find_model(facts["model"]).IMAGE_SIZE
    shape = (facts["channels"], size, size)
    with ImageWriter(snakemake.output.images, snakemake.output.manifest, shape) as writer:
        for images, rows in synthesize(generator, facts, **snakemake.params.settings):
            writer.append(images, rows)
