from scangan.jobs import job

with job(snakemake):
    from scangan.data.external import leave_out_known
    from scangan.data.store import read_image_set
    from scangan.files import atomic

    external = read_image_set(snakemake.input.external_images, snakemake.input.external_manifest)
    own = read_image_set(snakemake.input.images, snakemake.input.manifest)
    tables = leave_out_known(external, own, **snakemake.params.settings)
    for path, table in zip((snakemake.output.tested, snakemake.output.left_out), tables, strict=True):
        with atomic(path) as temporary:
            table.to_csv(temporary, index=False)
