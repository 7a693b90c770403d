import json
from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.report.tables import networks_table, planted_note, write_table

    descriptions = [json.loads(Path(file).read_text()) for file in snakemake.input.descriptions]
    described = dict(zip(snakemake.params.gans, descriptions, strict=True))
    fidelity = pd.read_csv(snakemake.input.fidelity)
    table = networks_table(fidelity, snakemake.params.gans, described)
    write_table(table, *snakemake.output, index="network", note=planted_note(fidelity))
