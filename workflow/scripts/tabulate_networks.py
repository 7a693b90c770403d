import json
from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.report.tables import networks_table, write_table

    descriptions = [json.loads(Path(file).read_text()) for file in snakemake.input.descriptions]
    described = dict(zip(snakemake.params.gans, descriptions, strict=True))
    table = networks_table(pd.read_csv(snakemake.input.fidelity), snakemake.params.gans, described)
    write_table(table, *snakemake.output, index="network")
