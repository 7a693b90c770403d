from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0], snakemake.threads):
    settings = dict(snakemake.params.settings)
    match settings.pop("renderer"):
        case "head_ct":
            from scangan.phantoms.head_ct import write_head_ct_phantom as write
        case "chest":
            from scangan.phantoms.chest_dicom import write_chest_phantom as write
        case "covid_ct":
            from scangan.phantoms.covid_ct import write_covid_ct_phantom as write
        case "brain_mr":
            from scangan.phantoms.brain_mr import write_brain_mr_phantom as write
    write(Path(snakemake.output.folder), **settings)
