from scangan.jobs import job

with job(snakemake) as log:
    import pandas as pd

    from scangan.config import Voi
    from scangan.data.scan_store import read_batches, read_scan_table, read_scans
    from scangan.data.voi import cut_healthy_vois, cut_nodule_vois, write_vois
    from scangan.files import atomic
    from scangan.synthesis.placement import annotated_sizes

    settings = Voi.model_validate(snakemake.params.settings)
    scans, nodules = read_batches(*(snakemake.input[name] for name in ("scans", "nodules", "cohorts")))
    known = read_scan_table(snakemake.input.annotated_scans), pd.read_csv(snakemake.input.annotated_nodules)
    _, diameters = annotated_sizes(*known, settings.diameters_mm)
    volumes = snakemake.input.volumes
    found = {
        "nodule": cut_nodule_vois(read_scans(volumes, scans), nodules, settings),
        "healthy": cut_healthy_vois(
            read_scans(volumes, scans), nodules, settings, settings.healthy_per_scan, diameters, settings.seed
        ),
    }
    for kind, (vois, _) in found.items():
        write_vois(snakemake.output[f"{kind}_voxels"], snakemake.output[f"{kind}_table"], vois)
    rejected = pd.concat([refused for _, refused in found.values()], ignore_index=True)
    with atomic(snakemake.output.rejected) as path:
        rejected.to_csv(path, index=False)
    log.info("%d nodules, %d healthy places, %d left out", *(len(vois) for vois, _ in found.values()), len(rejected))
