from scangan.jobs import job

SCANS = 16  # read and cut at a time

with job(snakemake) as log:
    import pandas as pd

    from scangan.config import Voi
    from scangan.data.scan_store import read_batches, read_scan_table, read_scans
    from scangan.data.voi import VoiWriter, cut_healthy_vois, cut_nodule_vois
    from scangan.files import atomic
    from scangan.synthesis.placement import annotated_sizes

    settings = Voi.model_validate(snakemake.params.settings)
    scans, nodules = read_batches(*(snakemake.input[name] for name in ("scans", "nodules", "cohorts")))
    known = read_scan_table(snakemake.input.annotated_scans), pd.read_csv(snakemake.input.annotated_nodules)
    _, diameters = annotated_sizes(*known, settings.diameters_mm)
    counts, refused = {"nodule": 0, "healthy": 0}, []
    for kind in ("nodule", "healthy"):
        out = snakemake.output[f"{kind}_voxels"], snakemake.output[f"{kind}_table"]
        with VoiWriter(*out, settings.size) as writer:
            # Of a few scans at a time: all VOIs of a large cohort would fill the memory.
            for first in range(0, len(scans), SCANS):
                read = read_scans(snakemake.input.volumes, scans.iloc[first : first + SCANS])
                if kind == "nodule":
                    vois, why_not = cut_nodule_vois(read, nodules, settings)
                else:
                    per_scan, seed = settings.healthy_per_scan, settings.seed
                    vois, why_not = cut_healthy_vois(read, nodules, settings, per_scan, diameters, seed)
                writer.append(vois)
                refused.append(why_not)
                counts[kind] += len(vois)
    rejected = pd.concat(refused, ignore_index=True)
    with atomic(snakemake.output.rejected) as path:
        rejected.to_csv(path, index=False)
    log.info("%d nodules, %d healthy places, %d left out", counts["nodule"], counts["healthy"], len(rejected))
