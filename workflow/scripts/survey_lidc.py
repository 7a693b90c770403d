from scangan.jobs import job

with job(snakemake):
    from scangan.files import atomic
    from scangan.ingest.lidc import lidc_distributions

    for table, target in zip(lidc_distributions(), snakemake.output, strict=True):
        with atomic(target) as path:
            table.to_csv(path, index=False)
