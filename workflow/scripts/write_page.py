from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd
    import yaml

    from scangan.report.page.run import describe_run, software_of, write_run
    from scangan.report.page.write import compare_study, write_page

    root, results = Path(snakemake.scriptdir).resolve().parents[1], Path(snakemake.config["results"])
    studies = snakemake.params.studies
    run = describe_run(results, snakemake.config, list(studies), root)
    write_run(snakemake.output.run, run)
    papers = snakemake.input.get("papers")
    compared = pd.read_csv(papers) if papers else compare_study(results, studies)
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    run["software"] = software_of(run)
    write_page(snakemake.output.page, results, studies, compared, run, citation)
