from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.data.volume_set import VolumeWriter
    from scangan.models.catalogue import read_generator
    from scangan.synthesis.volumes import VolumeSynthesizer, synthesize_volumes

    generator, facts = read_generator(Path(snakemake.input.weights), Path(snakemake.input.description))
    with VolumeWriter(snakemake.output.volumes, snakemake.output.manifest, facts["size"]) as writer:
        synthesize_volumes(VolumeSynthesizer(generator, facts), **snakemake.params.settings, writer=writer)
