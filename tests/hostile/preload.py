"""What readers import when they run: loaded once, before a process is forked for each input."""

from importlib import import_module

MODULES = """
    encodings.cp437 encodings.idna pyarrow.parquet SimpleITK torch zarr
    scangan.data.voi scangan.data.volume_set scangan.ingest.brats scangan.ingest.covid_ct scangan.ingest.image_folder
    scangan.ingest.labelled_images scangan.ingest.scans scangan.metrics.feature_sets scangan.metrics.volumes
    scangan.models.catalogue scangan.models.dcgan32 scangan.training.checkpoint scangan.training.supervised
    tests.unit.test_lidc
""".split()

for module in MODULES:
    import_module(module)
