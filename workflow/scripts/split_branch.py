from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.needs import check_needs
    from scangan.data.split import split_of_branch
    from scangan.files import atomic

    whole = pd.read_csv(snakemake.input.split, dtype=str, keep_default_na=False)
    split = split_of_branch(whole, **snakemake.params.branch)
    if snakemake.params.needs is not None:
        check_needs(split, snakemake.params.needs, "split")
    with atomic(snakemake.output.split) as path:
        split.to_csv(path, index=False)
