from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd
    import yaml

    from scangan.files import atomic
    from scangan.report.page.crate import write_crate
    from scangan.report.page.run import describe_run, software_of, write_run
    from scangan.report.page.write import compare_study, write_page

    root, page = Path(snakemake.scriptdir).resolve().parents[1], Path(snakemake.output.page)
    results = page.parents[1] if snakemake.rule == "write_study_page" else page.parent
    studies = snakemake.params.studies
    run = describe_run(results, snakemake.config, list(studies), root)
    write_run(snakemake.output.run, run)
    papers = snakemake.input.get("papers")
    compared = pd.read_csv(papers) if papers else compare_study(results, studies)
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    run["software"] = software_of(run)
    write_page(snakemake.output.page, results, studies, compared, run, citation)
    with atomic(snakemake.output.workflow) as path:
        path.write_bytes((root / "workflow/Snakefile").read_bytes())
    made = [*snakemake.input, snakemake.output.page, snakemake.output.run]
    title = f"Results of Scangan: {', '.join(studies)}"
    write_crate(snakemake.output.crate, run, made, snakemake.output.workflow, title)
