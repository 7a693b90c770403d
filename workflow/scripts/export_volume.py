from scangan.jobs import job

with job(snakemake):
    from scangan.data.volume_set import read_volume_set
    from scangan.ingest.export import export_volume

    volumes = read_volume_set([snakemake.input.volumes], [snakemake.input.manifest])
    export_volume(volumes, f"{snakemake.wildcards.gan}-{snakemake.wildcards.number}", snakemake.output[0])
