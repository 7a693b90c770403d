from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.report.paper_comparison import compare_with_papers, write_comparison

    studies = zip(snakemake.params.studies, snakemake.input.classification, snakemake.input.fidelity, strict=True)
    tables = {
        study: {"classification": pd.read_csv(classification), "fidelity": pd.read_csv(fidelity)}
        for study, classification, fidelity in studies
    }
    write_comparison(compare_with_papers(tables), snakemake.output.csv, snakemake.output.markdown)
