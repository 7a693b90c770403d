from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.scan_store import read_scan_table
    from scangan.facts import Facts
    from scangan.report.scan_figures import COUNT, distribution_table, nodule_distributions, radii
    from scangan.report.tables import write_table

    facts = Facts(**snakemake.params.study)
    nodules, lidc_nodules = pd.read_csv(snakemake.input.nodules), pd.read_csv(snakemake.input.lidc_nodules)
    counts = read_scan_table(snakemake.input.scans).nodules.dropna()
    sources = {
        "LIDC database": {
            COUNT: pd.read_csv(snakemake.input.lidc_counts).nodules,
            **radii(lidc_nodules),
        },
        "cohort": {COUNT: counts, **radii(nodules)},
    }
    kinds = {"LIDC database": "real", "cohort": facts.data}
    write_table(distribution_table(sources, kinds, facts), *snakemake.output.nodules, index=None)
    nodule_distributions(sources, kinds, snakemake.output.figure, facts)
