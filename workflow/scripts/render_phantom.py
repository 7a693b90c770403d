from importlib import import_module
from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.phantoms import module_of

    settings = dict(snakemake.params.settings)
    phantom = import_module(module_of(settings.pop("renderer")))
    phantom.write_phantom(Path(snakemake.output.folder), **settings)
