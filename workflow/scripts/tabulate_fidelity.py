from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.tables import fidelity_table, write_table

    scores = pd.concat(map(pd.read_csv, snakemake.input.fidelity), ignore_index=True)
    write_table(fidelity_table(scores, Facts(**snakemake.params.study)), *snakemake.output, index="variant")
