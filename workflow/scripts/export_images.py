import hashlib
from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.models.catalogue import read_generator
    from scangan.report.exported_images import Origin, export_images
    from scangan.synthesis.images import synthesize

    files, settings = snakemake.input, dict(snakemake.params.settings)
    bits, trained_gan = settings.pop("bits"), settings.pop("trained_gan")
    label, image_size = snakemake.wildcards.label, settings.pop("image_size")
    generator, facts = read_generator(Path(files.weights), Path(files.description), image_size, label)
    facts |= {"gan": settings.pop("name"), "label": label}
    origin = Origin(
        network=facts,
        trained_gan=trained_gan,
        weights_sha256=hashlib.sha256(Path(files.weights).read_bytes()).hexdigest(),
        study=Facts(**snakemake.params.study),
        licence=snakemake.params.licence,
        scores=pd.read_csv(files.fidelity),
        copies=pd.read_csv(files.copies),
    )
    export_images(Path(snakemake.output.folder), synthesize(generator, facts, **settings), bits, origin)
