from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.store import read_image_sets
    from scangan.facts import Facts
    from scangan.report.gan_figures import kept_and_discarded
    from scangan.report.screening_table import note_of, screening_table
    from scangan.report.tables import write_table

    verdicts = dict(zip(snakemake.params.gans, map(pd.read_parquet, snakemake.input.verdicts), strict=True))
    facts = Facts(**snakemake.params.study)
    table = screening_table(verdicts, facts)
    write_table(table, *snakemake.output[:2], index="variant", note=note_of(table))
    # The study's own network is the first.
    images = read_image_sets(snakemake.input.synthetic_images, snakemake.input.synthetic_manifests)
    kept_and_discarded(images, verdicts[snakemake.params.gans[0]], snakemake.output.figure, facts)
