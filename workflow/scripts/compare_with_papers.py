from collections import defaultdict
from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.report.paper_comparison import compare_with_papers, write_comparison

    tables = defaultdict(dict)
    for path in map(Path, snakemake.input.tables):
        tables[path.parts[-3]][path.stem] = pd.read_csv(path)
    write_comparison(compare_with_papers(tables), snakemake.output.csv, snakemake.output.markdown)
