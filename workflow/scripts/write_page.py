from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd
    import yaml

    from scangan.report.page.run import describe_run, software_of, write_run
    from scangan.report.page.write import write_page

    root = Path(snakemake.scriptdir).parents[1]
    results = Path(snakemake.output.page).parent
    run = describe_run(results, snakemake.config, root)
    write_run(snakemake.output.run, run)
    papers = pd.read_csv(snakemake.input.papers)
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    write_page(snakemake.output.page, snakemake.params.studies, papers, run | {"software": software_of(run)}, citation)
