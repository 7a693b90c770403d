from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.needs import check_needs
    from scangan.data.scan_store import read_scan_table
    from scangan.files import atomic
    from scangan.synthesis.mix import choose_mix, label_scans

    scans = pd.concat(
        # results/<study>/cohorts/<cohort>/scans/scans.csv
        [read_scan_table(path).assign(scanner=Path(path).parts[-3]) for path in snakemake.input.scans],
        ignore_index=True,
    )
    split = pd.read_csv(snakemake.input.split, dtype=str)
    mix = choose_mix(label_scans(scans, split), snakemake.params.settings["mix_seed"])
    check_needs(mix.assign(label=mix.label_after), snakemake.params.needs, "mix")
    with atomic(snakemake.output.mix) as path:
        mix.to_csv(path, index=False)
