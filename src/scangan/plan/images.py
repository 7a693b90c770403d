"""What a study of images has and ends in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from scangan.arms import arm_of_folder, find_training
from scangan.config import ImageStudy, Scans, Split
from scangan.errors import DataError
from scangan.facts import PUBLISHED
from scangan.ingest.readers import READERS
from scangan.plan.sources import Source
from scangan.plan.study import FIRST, NETWORK_KEYS, Branch, StudyPlan
from scangan.plan.values import Files, Settings, existing, optional, plain, shards_for


class ImagePlan(StudyPlan):
    """A study of images."""

    settings: ImageStudy

    @property
    def sources(self) -> list[Source]:
        own = Source(self.study, self.settings, self.config, self.settings.split)
        return [own] if self.settings.external is None else [own, self._external]

    @property
    def is_of_scans(self) -> bool:
        """Whether its images are slices of CT scans."""
        return isinstance(self.settings.data, Scans)

    @property
    def draws_nodules(self) -> bool:
        """Whether somebody looked for nodules in its scans."""
        data = self.settings.data
        return isinstance(data, Scans) and data.annotations != "none"

    @property
    def is_of_volumes(self) -> bool:
        return self.settings.is_of_volumes

    def labels(self) -> list[str]:
        """The names of its classes."""
        return self.settings.data.class_names

    def scan_tables(self) -> list[str]:
        """The scans that its images are slices of."""
        return self.of_every_source("scans/scans.csv") if self.is_of_scans else []

    def compared_copies(self) -> Settings:
        data = self.settings.data
        return {"image_size": data.image_size, "threshold": data.duplicates.threshold}

    def labelled_split(self) -> str:
        """Part and label of each image that classifiers learn of; of folds, in the first."""
        return f"{self.folds()[0].folder}/split/split.csv"

    def official_split(self) -> list[str]:
        """The parts that the data set brings, of readers of images."""
        return [] if self.is_of_scans else [f"{self.whole_folder}/cohort/official_split.csv"]

    def cohort_notes(self) -> list[str]:
        """What readers of images say below the cohort's table."""
        return [] if self.is_of_scans else [f"{self.whole_folder}/cohort/notes.txt"]

    def needs_of_split(self) -> Settings | None:
        if self.is_of_folds:  # its folds have parts, and needs
            return None
        settings, wanted = self.settings, self.settings.synthesis
        least: list[tuple[str, list[str], int]] = [("fidelity", ["train"], 2)]
        if wanted.screening is not None:
            least.append(("synthesis.screening.neighbours", ["train"], wanted.screening.neighbours))
            least.append(("synthesis.screening", ["validation"], wanted.screening.LEAST_VALIDATION))
        for name, gan in settings.gan.items():
            if gan.validations:
                least.append((f"gan.{name}.validations", ["validation"], 2))
        if settings.reading_room is not None:
            least.append(("reading_room.images", ["train", "validation", "test"], settings.reading_room.images))
        return {
            "of": "images",
            "classes": self.labels(),
            "least": least,
            "shares": list(settings.classifier.shares) if settings.classifier is not None else [],
            "synthetic": wanted.fewest_kept,
            "remedy": "raise synthesis.images_per_class, or let screening discard fewer",
            "map": settings.embedding and settings.embedding.model_dump(include={"each", "perplexity"}),
        }

    # Generative networks

    def image_size(self, gan: str) -> int:
        """Edge of a network's images."""
        return self.settings.size_of(gan)

    def trained_gan(self, gan: str) -> str:
        return self.settings.gan[gan].weights_of or gan

    def _is_conditional(self, gan: str) -> bool:
        """Whether one network draws all classes."""
        return self.settings.gan[self.trained_gan(gan)].is_conditional

    def training_files(self, gan: str, file: str, gan_seed: int = FIRST) -> list[str]:
        """A file of one training behind a network, for each class; one of all classes, if one network draws them."""
        folders = dict.fromkeys(self._training_folder(gan, gan_seed, label) for label in self.labels())
        return [f"{folder}/{file}" for folder in folders]

    def _training_folder(self, gan: str, gan_seed: int, label: str) -> str:
        folder = f"{self.folder}/gan/{self.trained_gan(gan)}/seed{gan_seed}"
        return folder if self._is_conditional(gan) else f"{folder}/{label}"

    def histories(self, gan: str) -> list[str]:
        return self.training_files(gan, "history.csv")

    def titles_of_histories(self, gan: str) -> list[str]:
        """Whose training each of them is of."""
        return ["all classes"] if self._is_conditional(gan) else self.labels()

    def descriptions(self) -> list[str]:
        """Of each network the description of the weights that it draws with (of its first class)."""
        return [self.training_files(gan, "generator.json")[0] for gan in self.gans()]

    def generator(self, gan: str, gan_seed: str, label: str) -> dict[str, str]:
        """The weights that a network draws with, and their description."""
        folder = self._training_folder(gan, int(gan_seed), label)
        return {"weights": f"{folder}/generator.safetensors", "description": f"{folder}/generator.json"}

    def shard_settings(self, gan: str, gan_seed: str, shard: str) -> Settings:
        """Names, seeds and number of one shard's images: more images make more shards, and leave the others alone."""
        wanted = self.settings.synthesis
        first = int(shard) * wanted.shard_size
        return {
            "batch_size": wanted.batch_size,
            "first_seed": wanted.seed + first,
            "image_size": self.image_size(gan),
            "images": min(wanted.shard_size, wanted.images_per_class - first),
            "name": self.generator_name(gan, int(gan_seed)),
        }

    def shards(self, gan: str, gan_seed: int = FIRST, labels: Sequence[str] | None = None) -> Files:
        """Images and manifests of all shards of one training of a network, of all classes or of some."""
        wanted = self.settings.synthesis
        stems = [
            f"{self.folder}/synthetic/{gan}/seed{gan_seed}/{label}/shard{shard}"
            for label in labels or self.labels()
            for shard in shards_for(wanted.images_per_class, wanted.shard_size)
        ]
        return {
            "synthetic_images": [f"{stem}.zarr.zip" for stem in stems],
            "synthetic_manifests": [f"{stem}.parquet" for stem in stems],
        }

    def drawn(self, gan: str, gan_seed: str) -> Files:
        """The same, as a set of images like any other."""
        shards = self.shards(gan, int(gan_seed))
        return {"images": shards["synthetic_images"], "manifests": shards["synthetic_manifests"]}

    def exported(self, gan: str, label: str) -> dict[str, str]:
        """The weights that exported images are drawn with, of the first training, and what was measured of it.

        Raises DataError for another network or class, and for volumes.
        """
        if self.is_of_volumes:
            raise DataError(f"{self.folder}/exported/{gan}/{label}: study: found volumes, allowed: a study of images")
        for key, found, allowed in (("gan", gan, self.gans()), ("label", label, self.labels())):
            if found not in allowed:
                where = f"{self.folder}/exported/{gan}/{label}"
                raise DataError(f"{where}: {key}: found '{found}', allowed: {' | '.join(allowed)}")
        stem = f"{self.folder}/fidelity/{gan}/seed{FIRST}"
        measured = {"fidelity": f"{stem}.csv", "copies": f"{stem}_copies.csv"}
        return self.generator(gan, str(FIRST), label) | measured

    def export_settings(self, gan: str) -> Settings:
        """Names, seeds, number and bits of exported images: the first of them are those of the shards."""
        wanted, export = self.settings.synthesis, self.settings.export
        return {
            "batch_size": wanted.batch_size,
            "bits": export.bits,
            "first_seed": wanted.seed,
            "image_size": self.image_size(gan),
            "images": export.images or wanted.images_per_class,
            "name": self.generator_name(gan, FIRST),
            "trained_gan": self.trained_gan(gan),
        }

    def screened_shards(self, gan: str | None = None, gan_seed: int = FIRST) -> Files:
        """Synthetic images of the experiment, of one training, and which of them were discarded; None: of its own."""
        gan = gan or self.own_gan()
        screened = self.settings.synthesis.screening is not None
        verdicts = [f"{self.folder}/screening/{gan}/seed{gan_seed}.parquet"] if screened else []
        return self.shards(gan, gan_seed) | {"verdicts": verdicts}

    def first_shards(self) -> Files:
        """The first images of each class of the study's own network, of its first training: with which it is shown."""
        files = [self.shards(self.own_gan(), FIRST, [label]) for label in self.labels()]
        return {kind: [each[kind][0] for each in files] for kind in files[0]}

    def verdicts(self) -> list[str]:
        """Of each network of the arms what was discarded of its first training's images."""
        return [path for gan in self.gans_of_arms() for path in self.screened_shards(gan)["verdicts"]]

    def overruling_file(self, gan: str, gan_seed: str) -> list[str]:
        """The user's own verdicts on synthetic images, if there are any: of the training whose images are shown."""
        own = existing(self.settings.synthesis.screening).overrule
        return optional(own) if (gan, int(gan_seed)) == (self.own_gan(), FIRST) else []

    def panel_gans(self, panel: str) -> Settings:
        return {"gans": list(self.settings.panels[panel])}

    def panel_shards(self, panel: str) -> Files:
        """Images and manifests of the networks of a panel, in its order."""
        sets = [self.shards(gan) for gan in self.settings.panels[panel]]
        return {kind: [path for files in sets for path in files[kind]] for kind in sets[0]}

    def feature_settings(self) -> Settings:
        """By which network features are, and of volumes in how many slices of each plane."""
        fidelity = self.settings.fidelity
        positions = {"positions": fidelity.positions} if self.is_of_volumes else {}
        return {"extractor": fidelity.extractor} | positions

    def features(self, gan: str, gan_seed: str) -> dict[str, str | list[str]]:
        """Features of a network's images, with their manifests, and of real images at the same size."""
        return {
            "synthetic": f"{self.folder}/features/{gan}/seed{gan_seed}.safetensors",
            "synthetic_manifests": self.shards(gan, int(gan_seed))["synthetic_manifests"],
            "real": f"{self.whole_folder}/features/real/{self.image_size(gan)}.safetensors",
        }

    def measured(self, gan: str, gan_seed: str) -> dict[str, str | list[str]]:
        """A network's images and their features, with the features of real images at the same size, and who judges."""
        judges = {"descriptions": self.described(gan, gan_seed), "encoder": self.encoder(gan)}
        return {**self.features(gan, gan_seed), **self.shards(gan, int(gan_seed)), **judges}

    def described(self, gan: str, gan_seed: str) -> list[str]:
        """The descriptions of the weights that one training of a network draws with, of all classes."""
        return self.training_files(gan, "generator.json", int(gan_seed))

    def fidelities(self) -> list[str]:
        """What was measured of every training of every network."""
        trainings = [(gan, gan_seed) for gan in self.gans() for gan_seed in self.gan_seeds(gan)]
        return [f"{self.folder}/fidelity/{gan}/seed{gan_seed}.csv" for gan, gan_seed in trainings]

    def encoder(self, gan: str) -> list[str]:
        """The study's own network that judges a network's images, if one is asked for."""
        asked = self.settings.fidelity.encoder is not None
        return [f"{self.folder}/encoder/{self.image_size(gan)}.safetensors"] if asked else []

    def encoder_settings(self) -> Settings:
        return plain(existing(self.settings.fidelity.encoder).model_dump(mode="json"))

    # Classifiers

    def arm_inputs(self, arm_folder: str, training: str) -> Files:
        """The synthetic images that an arm is trained on, if any; of one with copies, what says how many there are."""
        arm = arm_of_folder(arm_folder)
        if arm.reads_copies:
            files = self.screened_shards()
            return {kind: paths for kind, paths in files.items() if kind != "synthetic_images"}
        gan_seed = find_training(training).gan_seed
        return {} if gan_seed is None else self.screened_shards(self.gan_of(arm), gan_seed)

    def network_of_classifiers(self) -> Settings:
        """What it takes to build the network that a classifier's weights belong to, and to use it."""
        return {key: getattr(self._classifier, key) for key in NETWORK_KEYS} | {"classes": self.classes()}

    def predicting_network(self) -> Settings:
        """The same, and the class whose probability it is asked for."""
        return plain(self.network_of_classifiers() | {"positive": self._classifier.positive})

    def judge_settings(self) -> Settings:
        """Which classifier the judges are, and the images that they take; of a published one the outputs."""
        classifier, judge = self._classifier, existing(self.settings.judge)
        if judge.outputs is None:
            return plain(self.predicting_network() | {"image_size": self.settings.data.image_size})
        own = {key: getattr(classifier, key) for key in ("backbone", "batch_size", "positive")}
        return plain(own | {"image_size": self.settings.data.image_size, "outputs": judge.outputs})

    def judges(self) -> range:
        """The seeds of the classifiers that judge; of a published one there is one."""
        return self.seeds() if existing(self.settings.judge).weights is None else range(1)

    def judge_weights(self, seed: str) -> str:
        """The weights of a judge: of the arm `real`, or published ones."""
        published = existing(self.settings.judge).weights
        return published or f"{self.folder}/classifier/real/seed{seed}/classifier.safetensors"

    def judged_images(self, gan: str) -> Files:
        """What the judges see of a network: all shards of the positive class."""
        return self.shards(gan, labels=[self._classifier.positive])

    def judgements(self) -> Files:
        """Of every network and seed, network by network, and what the same classifiers say of the real images."""
        judged = [f"{self.folder}/judge/{gan}/seed{seed}.parquet" for gan in self.gans() for seed in self.judges()]
        is_own = existing(self.settings.judge).weights is None
        return {
            "judgements": judged,
            "predictions": self.predictions(["real"]) if is_own else [f"{self.folder}/judge/real_images.parquet"],
        }

    def judge_facts(self) -> Settings:
        """What the table of the judges says of itself: with which weights they began, or that they are published."""
        published = existing(self.settings.judge).weights is not None
        return self.facts("positive", "pretrained") | ({"pretrained": PUBLISHED} if published else {})

    def judge_count(self) -> int:
        """How many judges there are."""
        return len(self.judges())

    def embedding_settings(self) -> Settings:
        """t-SNE's settings, the classical augmentation, and which classifier's space it is."""
        return plain(
            {
                "embedding": existing(self.settings.embedding).model_dump(mode="json"),
                "classifier": self.network_of_classifiers(),
                "classical": self._classifier.classical.model_dump(mode="json"),
            }
        )

    def readings(self) -> list[str]:
        """What readers exported, or simulated ones."""
        room = existing(self.settings.reading_room)
        simulated = range(1, room.simulated_readers + 1)
        return room.readers or [f"{self.folder}/reading_room/simulated/reader{number}.csv" for number in simulated]

    # A curve over the training patients

    def shares_of_patients(self) -> list[Self]:
        """The same study with each share of its training patients, itself last; itself alone without a curve."""
        smaller = self.settings.curve.smaller_shares if self.settings.curve and self.branch == Branch() else []
        return [*(self._branch(Branch(share=share)) for share in smaller), self]

    def with_branches(self) -> Iterator[Self]:
        for study in self.shares_of_patients()[::-1]:
            yield study
            if study.is_of_folds:
                yield from study.folds()

    def curve_shares(self) -> list[float]:
        """The shares of its curve."""
        return [study.branch.share or 1 for study in self.shares_of_patients()]

    def curve_predictions(self) -> list[str]:
        """Of every share the files of `predictions`."""
        return [path for study in self.shares_of_patients() for path in study.predictions()]

    def curve_splits(self) -> list[str]:
        """Who trains with each share (in the first fold)."""
        return [study.labelled_split() for study in self.shares_of_patients()]

    # Other patients, and groups of them

    @property
    def _external(self) -> Source:
        # It is tested on as a whole: there is no split of it.
        external = self.settings.sources["external"]
        return Source(f"{self.study}/external", external, self.config, Split())

    def external_cohort(self) -> dict[str, str]:
        """The images of other patients."""
        folder = f"{self._external.folder}/cohort"
        return {"external_images": f"{folder}/images.zarr.zip", "external_manifest": f"{folder}/manifest.parquet"}

    def external_rejected(self) -> str:
        """What could not be read of them."""
        return f"{self._external.folder}/cohort/rejected.csv"

    def external_settings(self) -> Settings:
        """From which similarity an image is a copy of one of the study's own, and whether both are of one folder."""
        own, external = self.settings.data, existing(self.settings.external)
        same_folder = self.config.data_roots[own.root] is not None and own.root == external.root
        return {"same_folder": same_folder, "threshold": own.duplicates.threshold}

    def subgroups_column(self) -> str:
        """The column of the labels' CSV whose values are the subgroups."""
        return existing(self.settings.evaluation.subgroups).column

    # What it ends in

    def _first_exported(self) -> str | None:
        gan = self._shown_gan()
        return None if gan is None or self.is_of_volumes else f"{gan}/{self.labels()[0]}"

    def _page_images(self) -> Settings:
        what, size = ("volumes", "voxels") if self.is_of_volumes else ("images", "pixels")
        edges = [str(self.settings.data.image_size)] * self.settings.data.DIMENSIONS
        return {
            "labels": self.labels(),
            "size": f"{' x '.join(edges)} {size}",
            "synthetic": f"{self.settings.synthesis.images_per_class} synthetic {what} of each class",
        }

    def tables(self) -> list[str]:
        settings, branch = self.settings, self.branch
        reader = READERS.get(settings.data.reader)
        asked = {
            "judge": settings.judge is not None,
            "screening": settings.synthesis.screening is not None,
            "separation": settings.embedding is not None,
            "readers": settings.reading_room is not None,
            "networks": len(settings.gan) > 1,
        }
        of_networks = [] if self.is_of_folds or branch.share else [name for name, wanted in asked.items() if wanted]
        of_cohort = ["nodules"] * self.draws_nodules + list(reader.tables if reader else ())
        of_whole = {
            "curve": settings.curve is not None,
            "external": settings.external is not None,
            "subgroups": settings.evaluation.subgroups is not None,
        }
        is_whole = branch == Branch()
        return [
            *(["cohort"] if is_whole else []),
            *([] if self.is_of_folds else ["fidelity"]),
            *(self.experiment_tables() if branch.fold is None else []),
            *(name for name, wanted in of_whole.items() if wanted and is_whole),
            *of_networks,
            *(of_cohort if is_whole else []),
        ]

    def figures(self) -> list[str]:
        settings, branch = self.settings, self.branch
        asked = {
            "judge": settings.judge is not None,
            "screening": settings.synthesis.screening is not None,
            "embedding": settings.embedding is not None,
            "classical": settings.embedding is not None,
        }
        has_own = not self.is_of_folds and branch.share is None
        is_whole = branch == Branch()
        return [
            *(f"panels/{panel}" for panel in settings.panels if has_own),
            *(f"{gan}/{figure}" for gan in self.gans() for figure in ("images", "training") if has_own),
            *(self.experiment_figures() if is_whole else []),
            *(["curve"] if is_whole and settings.curve else []),
            *(name for name, wanted in asked.items() if wanted and has_own),
            *(["scans"] if is_whole and self.is_of_scans else []),
            *(["nodules"] if is_whole and self.draws_nodules else []),
        ]

    def targets(self) -> list[str]:
        """The files that it and its branches end in."""
        branches = [study for study in self.with_branches() if study is not self]
        return super().targets() + [path for study in branches for path in study.targets()]
