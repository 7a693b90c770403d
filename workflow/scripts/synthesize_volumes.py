from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.data.volume_set import VolumeWriter
    from scangan.models.catalogue import read_generator
    from scangan.synthesis.volumes import VolumeSynthesizer, synthesize_volumes

    settings = dict(snakemake.params.settings)
    generator, facts = read_generator(Path(snakemake.input.weights), Path(snakemake.input.description))
    facts["gan"] = settings.pop("name")
    with VolumeWriter(snakemake.output.volumes, snakemake.output.manifest, facts["size"]) as writer:
        synthesize_volumes(VolumeSynthesizer(generator, facts), **settings, writer=writer)
