from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.tables import fidelity_table, write_fidelity

    scores = pd.concat(map(pd.read_csv, snakemake.input.fidelity), ignore_index=True)
    facts = Facts(**snakemake.params.study)
    table = fidelity_table(scores, facts)
    write_fidelity(table, *snakemake.output, snakemake.params.settings["copy_quantile"], facts.extractor)
