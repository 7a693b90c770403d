from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0]):
    from scangan.config import Phantom
    from scangan.data.phantom import write_head_ct_phantom

    settings = Phantom.model_validate(snakemake.params.settings)
    renderers = {"head_ct": write_head_ct_phantom}
    renderers[settings.renderer](Path(snakemake.output.folder), settings.images, settings.image_size, settings.seed)
