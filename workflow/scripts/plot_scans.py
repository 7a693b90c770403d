from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.scan_store import read_scan_table, read_scans
    from scangan.facts import Facts
    from scangan.report.scan_figures import contact_sheet

    largest = pd.read_csv(snakemake.input.nodules).groupby("scan_id").equivalent_diameter_mm.max()
    scans = read_scan_table(snakemake.input.scans).join(largest, on="scan_id")
    shown = read_scans(snakemake.input.volumes, scans)
    contact_sheet(shown, snakemake.output.scans, Facts(**snakemake.params.study))
