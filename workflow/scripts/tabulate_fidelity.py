from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.report.tables import fidelity_table, write_table

    facts = {name: snakemake.params.study[name] for name in ("study", "data", "scale", "extractor")}
    scores = pd.concat(map(pd.read_csv, snakemake.input.fidelity), ignore_index=True)
    write_table(fidelity_table(scores, **facts), *snakemake.output, index="variant")
