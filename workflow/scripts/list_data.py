import json
from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads) as log:
    from scangan.files import atomic
    from scangan.ingest.data_record import record_data, record_of

    results = Path(snakemake.output.listing).parents[1]  # results/data/<root>.json
    record = record_of(snakemake.wildcards.root, results)
    summary = record_data(snakemake.input.folder, record)
    with atomic(snakemake.output.listing) as path:
        path.write_text(json.dumps(summary, indent=2) + "\n")
    log.info("%d files, %.2f GB", summary["files"], summary["bytes"] / 1e9)
