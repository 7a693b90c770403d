"""What a study of volumes has and ends in."""

from __future__ import annotations

from scangan.arms import arm_of_folder, find_training
from scangan.config import VOLUME_LABELS, OwnEdits, VolumeStudy, VolumeSynthesis, sort_keys
from scangan.plan.sources import Source, listing_of
from scangan.plan.study import FIRST, StudyPlan
from scangan.plan.values import Files, Settings, existing, plain, shards_for


class VolumePlan(StudyPlan):
    """A study of volumes, of one or several cohorts."""

    settings: VolumeStudy

    @property
    def is_of_volumes(self) -> bool:
        return True

    @property
    def sources(self) -> list[Source]:
        return [
            Source(f"{self.name}/cohorts/{name}", cohort, self.config, self.settings.split)
            for name, cohort in self.settings.cohorts.items()
        ]

    def cohorts(self) -> list[str]:
        """The names of its cohorts."""
        return list(self.settings.cohorts)

    def scan_tables(self) -> list[str]:
        """The scans of all cohorts."""
        return self.of_every_source("scans/scans.csv")

    def compared_copies(self) -> Settings:
        return {}

    def labelled_split(self) -> str:
        """Part and label of each scan that detectors learn of: after the mix."""
        return f"{self.folder}/nodules/mixed/labels.csv"

    def official_split(self) -> list[str]:
        """No data set of volumes brings one."""
        return []

    def cohort_notes(self) -> list[str]:
        """Nothing of volumes."""
        return []

    def needs_of_split(self) -> None:
        """Its labels are the cohorts, and those that its detectors learn of those after the mix."""

    def needs_of_mix(self) -> Settings:
        """What its detectors need of the mix, see `data.needs.check_needs`."""
        classifier, wanted = self.settings.classifier, self.settings.synthesis
        parts = ("train", "validation", "test") if classifier is not None else ()
        return {
            "of": "scans",
            "classes": self.labels(),
            "least": [("classifier", [part], 1) for part in parts],
            "shares": list(classifier.shares) if classifier is not None else [],
            "synthetic": wanted.volumes // 2 if wanted is not None else 0,
            "remedy": "raise synthesis.volumes, half of which get nodules",
            "map": None,
        }

    # Nodules

    @property
    def _own_edits(self) -> OwnEdits:
        return existing(existing(self.settings.nodules).edits)

    def batches_below(self, folder: str, ending: str) -> list[str]:
        """A file of each batch of each cohort, in a folder of the study's."""
        return [
            f"{self.folder}/{folder}/{cohort}/batch{batch}{ending}"
            for cohort, source in zip(self.cohorts(), self.sources, strict=True)
            for batch in source.batches()
        ]

    def said_of_negatives(self) -> dict[str, str]:
        """The same of each cohort."""
        return {cohort: source.said_of_negatives() for cohort, source in zip(self.cohorts(), self.sources, strict=True)}

    def annotated(self, file: str) -> str:
        """A table of the scans of the cohort whose nodules are known."""
        return f"{self.folder}/cohorts/{existing(self.settings.nodules).annotated}/scans/{file}"

    def batch_on_grid(self, cohort: str, batch: str, ending: str) -> str:
        """A file of a batch of scans on the grid on which nodules are edited.

        That of the cubes, so that nodules of synthetic volumes are no others; without any, the scans' own.
        """
        folder = f"cohorts/{cohort}/scans" if self.settings.grid is None else f"volumes/framed/{cohort}"
        return f"{self.folder}/{folder}/batch{batch}{ending}"

    def on_grid(self, ending: str) -> list[str]:
        """The same of each batch of each cohort."""
        return [
            self.batch_on_grid(cohort, str(batch), ending)
            for cohort, source in zip(self.cohorts(), self.sources, strict=True)
            for batch in source.batches()
        ]

    def scan_table_of_each_batch(self) -> list[str]:
        """For each batch of each cohort, the table of the cohort's scans."""
        return [f"{source.folder}/scans/scans.csv" for source in self.sources for _ in source.batches()]

    def mixed(self, ending: str) -> list[str]:
        """A file of each batch of each cohort after the mix."""
        return self.batches_below("nodules/mixed", ending)

    def nodule_training(self, network: str) -> Settings:
        """The VOIs that a nodule network is trained on, and the cohort that the eraser is not: null for none."""
        nodules = existing(self.settings.nodules)
        spared = network == "eraser" and nodules.eraser_learns_of == "unannotated"
        return plain({"voi": nodules.voi.model_dump(mode="json"), "annotated": nodules.annotated if spared else None})

    def injector_of(self, network: str) -> list[str]:
        """What an eraser needs to be trained: the injector."""
        stem = f"{self.folder}/nodules/injector/generator"
        return [f"{stem}.safetensors", f"{stem}.json"] if network == "eraser" else []

    def own_scans(self) -> str:
        """Folder of the scans that the user's own edits are of."""
        return existing(self.config.data_roots[self._own_edits.root])

    def listing_of_own_scans(self) -> str:
        """What that folder holds."""
        return listing_of(self._own_edits.root, self.results)

    def edits_file(self) -> str:
        return self._own_edits.file

    def own_edit_settings(self) -> Settings:
        """The seed of the user's own edits; the networks say all else."""
        return {"seed": self._own_edits.seed}

    # Volumes

    @property
    def _synthesis(self) -> VolumeSynthesis:
        return existing(self.settings.synthesis)

    def framed(self, version: str) -> Files:
        """The cubes of all scans: `free` of nodules, or `mixed` so that half of each cohort has some."""
        return {
            "volumes": self.batches_below(f"volumes/{version}", ".zarr.zip"),
            "manifests": self.batches_below(f"volumes/{version}", ".parquet"),
        }

    def volumes_of(self, gan: str) -> int:
        """How many volumes are drawn from a network."""
        wanted = self._synthesis
        compared = gan not in self.gans_of_arms() and wanted.compared_volumes
        return compared or wanted.volumes

    def shard_settings(self, gan: str, gan_seed: str, shard: str) -> Settings:
        """Names, seeds and number of one shard's volumes: more volumes make more shards, and leave the others alone."""
        wanted = self._synthesis
        first = int(shard) * wanted.shard_size
        return {
            "described": int(gan_seed) == FIRST,  # tables are of the first training
            "first_seed": wanted.seed + first,
            "name": self.generator_name(gan, int(gan_seed)),
            "size": existing(self.settings.grid).size,
            "volumes": min(wanted.shard_size, self.volumes_of(gan) - first),
        }

    def labels(self) -> list[str]:
        """The names of its classes."""
        return list(VOLUME_LABELS)

    def injection(self, gan: str) -> dict[str, str]:
        """What nodules are made of, for a network's volumes; nothing for a network of no arm."""
        if gan not in self.gans_of_arms():
            return {}
        files = {f"annotated_{kind}": self.annotated(f"{kind}.csv") for kind in ("scans", "nodules")}
        for network in ("injector", "eraser"):
            stem = f"{self.folder}/nodules/{network}/generator"
            files |= {f"{network}_weights": f"{stem}.safetensors", f"{network}_description": f"{stem}.json"}
        return files

    def injection_settings(self, gan: str) -> Settings | None:
        """How nodules, and shams, are put into a network's volumes; None for a network of no arm."""
        if gan not in self.gans_of_arms():
            return None
        nodules = existing(self.settings.nodules).model_dump(mode="json")
        wanted = {key: nodules[key] for key in ("mix_seed", "placement", "sham", "voi")}
        settings: Settings = sort_keys({"attempts": self._synthesis.attempts, **wanted})
        return settings

    def versions(self, gan: str) -> float:
        """How many volumes are kept for each that a network draws: those that are edited, once more."""
        if (wanted := self.injection_settings(gan)) is None:
            return 1
        return 2 if wanted["sham"] else 1.5

    def shards(self, gan: str, gan_seed: int = FIRST, folder: str = "") -> Files:
        """All shards of one training's volumes; folder: `nodules/` for those in which half have nodules."""
        stem = f"{self.folder}/synthetic/{gan}/seed{gan_seed}"
        names = [f"shard{shard}" for shard in shards_for(self.volumes_of(gan), self._synthesis.shard_size)]
        return {
            "volumes": [f"{stem}/{name}.zarr.zip" for name in names],
            "manifests": [f"{stem}/{folder}{name}.parquet" for name in names],
        }

    def first_shards(self) -> Files:
        """Of each network the first volumes, with which it is shown."""
        stems = [f"{self.folder}/synthetic/{gan}/seed{FIRST}/shard0" for gan in self.gans()]
        return {
            "synthetic_volumes": [f"{stem}.zarr.zip" for stem in stems],
            "synthetic_manifests": [f"{stem}.parquet" for stem in stems],
        }

    def measured_volumes(self, source: str) -> Files:
        """`real` volumes without nodules, or all that a network's first training drew, which are described already."""
        if source == "real":
            return self.framed("free")
        files = self.shards(source)
        described = [path.removesuffix(".parquet") + "_described.parquet" for path in files["manifests"]]
        return files | {"described": described}

    def measured_sources(self) -> Files:
        """What was measured of the real volumes, and of each network's; what is said of the networks themselves."""
        stems = [f"{self.folder}/fidelity/{source}" for source in ("real", *self.gans())]
        return {
            "generators": [f"{self.folder}/gan/{gan}/seed{FIRST}/generator.json" for gan in self.gans()],
            "slices": [f"{stem}_slices.safetensors" for stem in stems],
            "descriptions": [f"{stem}_volumes.parquet" for stem in stems],
        }

    def rejected_volumes(self) -> list[str]:
        """What was left out of the volumes without nodules, and of the synthetic ones with and without."""
        trainings = [(gan, gan_seed) for gan in self.gans_of_arms() for gan_seed in self.gan_seeds(gan)]
        drawn = [path for training in trainings for path in self.shards(*training, "nodules/")["manifests"]]
        rejected = [path.removesuffix(".parquet") + "_rejected.parquet" for path in drawn]
        real = [self.batches_below(f"volumes/{version}", "_rejected.parquet") for version in ("framed", "free")]
        return [*real[0], *real[1], *rejected]

    def exported_shard(self, gan: str, number: str) -> dict[str, str]:
        """The shard that holds a volume of the first training, with its nodules if detectors train on such volumes."""
        wanted = self._synthesis
        shard = (int(number) - wanted.seed) // wanted.shard_size
        folder = "nodules/" if gan in self.gans_of_arms() else ""
        stem = f"{self.folder}/synthetic/{gan}/seed{FIRST}"
        return {"volumes": f"{stem}/shard{shard}.zarr.zip", "manifest": f"{stem}/{folder}shard{shard}.parquet"}

    # Detectors

    def arm_inputs(self, arm_folder: str, training: str) -> Files:
        """The real volumes with and without nodules, those of the tests by size, and what an arm trains on besides."""
        arm, gan_seed = arm_of_folder(arm_folder), find_training(training).gan_seed
        sets = {version: self.framed(version) for version in ("free", "mixed")}
        stem = f"{self.folder}/volumes/sized"
        sets["sized"] = {"volumes": [f"{stem}.zarr.zip"], "manifests": [f"{stem}.parquet"]}
        if arm.reads_copies:  # how many synthetic volumes there are
            sets["synthetic"] = self.shards(self.own_gan(), FIRST, "nodules/") | {"volumes": []}
        elif gan_seed is not None:
            sets["synthetic"] = self.shards(self.gan_of(arm), gan_seed, "nodules/")
        found = {f"{name}_{kind}": files[kind] for name, files in sets.items() for kind in ("volumes", "manifests")}
        return {kind: paths for kind, paths in found.items() if paths}

    # What it ends in

    def _trainings_of(self, gan: str) -> int:
        # Volumes of the others are shown, and the first training's alone.
        return len(self.gan_seeds(gan)) if self.settings.classifier and gan in self.gans_of_arms() else 1

    def _first_exported(self) -> str | None:
        gan = self._shown_gan()
        return gan and f"{gan}-0.nii.gz"

    def _page_images(self) -> Settings:
        grid, wanted = self.settings.grid, self.settings.synthesis
        return {
            "labels": list(VOLUME_LABELS),
            "size": f"{grid.size} x {grid.size} x {grid.size} voxels" if grid else "any size",
            "synthetic": f"{wanted.volumes if wanted else 'no'} synthetic volumes",
        }

    def tables(self) -> list[str]:
        settings = self.settings
        names = ["cohort"]
        if settings.nodules is not None:
            names += ["eraser", "injector", "mix", "scanner"]
        if settings.gan:
            names += ["fidelity", "consistency"]
        return names + self.experiment_tables() + (["detection"] if settings.classifier else [])

    def figures(self) -> list[str]:
        settings = self.settings
        names = ["vois", "diameters", "edits"] if settings.nodules else []
        if settings.gan:
            names += ["planes", "middle", "regions", "consistency"]
        return names + self.experiment_figures() + (["detection"] if settings.classifier else [])

    def targets(self) -> list[str]:
        nodules = self.settings.nodules
        edited = [f"{self.folder}/nodules/edited"] if nodules and nodules.edits else []
        scroll = [f"{self.folder}/figures/scroll.gif"] if self.settings.gan else []
        return super().targets() + edited + scroll
