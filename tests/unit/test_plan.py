"""What a study has and what it ends in, asked without Snakemake."""

import json
from pathlib import Path

import pytest
import yaml

from scangan.config import load
from scangan.errors import DataError
from scangan.plan import Plan

ROOT = Path(__file__).parents[2]
SCALES = json.loads((ROOT / "config/scales.json").read_text())
DEMO = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def merge(below, above):
    return below | {
        key: merge(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }


def plan_of(**changes):
    return Plan(load(merge(DEMO, changes)), SCALES)


def study(name, **changes):
    """A study of the default, with some of its keys changed."""
    return plan_of(studies={name: changes}).studies[name]


def test_the_default_ends_in_these_tables():
    tables = {name: each.tables() for name, each in plan_of().studies.items()}
    assert tables == {
        "head_ct": ["cohort", "fidelity", "classification", "calibration", "networks"],
        "simple_ct_gan": ["cohort", "fidelity", "networks", "nodules"],
        "covid_ct": ["cohort", "fidelity", "classification", "calibration", "judge", "networks"],
        "brain_mr": [
            *("cohort", "fidelity", "classification", "calibration", "shares"),
            *("screening", "separation", "readers", "networks", "slices"),
        ],
        "ct_sgan": [
            *("cohort", "eraser", "injector", "mix", "scanner", "fidelity", "consistency"),
            *("classification", "calibration", "shares", "detection"),
        ],
    }


def test_the_default_ends_in_these_figures():
    figures = {name: each.figures() for name, each in plan_of().studies.items()}
    networks = [f"{gan}/{figure}" for gan in ("dcgan32", "projected_gan") for figure in ("images", "training")]
    assert figures["head_ct"] == [*networks, "roc", "reliability"]
    assert figures["ct_sgan"] == [
        *("vois", "diameters", "edits", "planes", "middle", "regions", "consistency"),
        *("roc", "reliability", "shares", "detection"),
    ]
    assert figures["simple_ct_gan"][:4] == [
        f"panels/{panel}" for panel in ("kernel_size", "optimizer", "image_size", "training_images")
    ]
    assert figures["simple_ct_gan"][-2:] == ["scans", "nodules"]


def test_targets_are_tables_twice_and_figures():
    head_ct = study("head_ct")
    assert len(head_ct.targets()) == 2 * len(head_ct.tables()) + len(head_ct.figures()) + 2
    assert head_ct.targets()[-2:] == ["results/head_ct/verdict.json", "results/head_ct/verdict.md"]
    assert "results/head_ct/tables/classification.md" in head_ct.targets()
    assert "results/ct_sgan/figures/scroll.gif" in study("ct_sgan").targets()


def test_results_elsewhere():
    plan = plan_of(results="elsewhere")
    assert all(target.startswith("elsewhere/") for each in plan.studies.values() for target in each.targets())
    assert all(path.startswith("elsewhere/") for path in plan.compared_tables())


def test_the_demo_is_one_and_a_changed_key_makes_it_custom():
    assert {each.facts()["scale"] for each in plan_of().studies.values()} == {"demo"}
    changed = plan_of(studies={"head_ct": {"split": {"seed": 1}}}).studies
    assert {name: each.facts()["scale"] for name, each in changed.items() if each.scale != "demo"} == {
        "head_ct": "custom"
    }


def test_sources_and_whose_data_they_are(tmp_path):
    plan = plan_of(data_roots={"lidc": str(tmp_path)})
    assert list(plan.sources) == [
        *("head_ct", "simple_ct_gan", "covid_ct", "brain_mr"),
        *("ct_sgan/cohorts/lidc", "ct_sgan/cohorts/nlst"),
    ]
    assert plan.images == ["head_ct", "simple_ct_gan", "covid_ct", "brain_mr"]
    assert plan.volumes == ["ct_sgan"]
    assert [plan.studies[name].data for name in ("head_ct", "simple_ct_gan", "ct_sgan")] == [
        *("phantom", "real", "phantom and real")
    ]
    assert plan.sources["head_ct"].listing() == []
    # Both studies share the folder, so it is listed once.
    assert plan.sources["simple_ct_gan"].listing() == ["results/data/lidc.json"]
    assert plan.sources["ct_sgan/cohorts/lidc"].listing() == ["results/data/lidc.json"]


def test_an_external_set_is_a_source_of_its_own(tmp_path):
    roots = {"head_ct": str(tmp_path), "other": str(tmp_path)}
    plan = plan_of(
        data_roots=roots, studies={"head_ct": {"external": {"root": "other"}, "split": {"method": "by_patient"}}}
    )
    assert list(plan.sources)[:2] == ["head_ct", "head_ct/external"]
    assert {"head_ct", "head_ct/external"} <= set(plan.image_sources)
    assert plan.images == list(plan_of().images)
    own, external = (plan.sources[name] for name in ("head_ct", "head_ct/external"))
    assert external.folder == "results/head_ct/external"
    assert external.listing() == ["results/data/other.json"]
    assert external.reader_settings() == own.reader_settings() | {"root": "other"}
    head_ct = plan.studies["head_ct"]
    assert head_ct.data == "real"
    assert "results/head_ct/tables/external.csv" in head_ct.targets()
    assert head_ct.external_cohort()["external_images"] == "results/head_ct/external/cohort/images.zarr.zip"
    # Names of patients mean the same in one folder alone.
    assert head_ct.external_settings() == {"same_folder": False, "threshold": 0.95}
    same = plan_of(data_roots={"head_ct": str(tmp_path)}, studies={"head_ct": {"external": {"labels": "other.csv"}}})
    assert same.studies["head_ct"].external_settings()["same_folder"] is True


def test_copies_within_an_external_set_are_settled_though_the_studys_split_is_given():
    covid = {"external": {}, "data": {"duplicates": "drop"}, "split": {"method": "official"}}
    plan = plan_of(studies={"covid_ct": covid})
    assert plan.sources["covid_ct"].duplicates()["near"] == "allow"
    assert plan.sources["covid_ct/external"].duplicates() == {"identical": "drop", "near": "drop", "threshold": 0.95}


def test_the_phantom_of_an_external_set_has_another_seed():
    plan = plan_of(studies={"head_ct": {"external": {"root": None}}})
    own, external = (plan.sources[name].phantom_settings() for name in ("head_ct", "head_ct/external"))
    assert external == own | {"seed": own["seed"] + 1}
    assert plan.studies["head_ct"].facts()["data"] == "phantom"


def test_neither_an_external_set_nor_subgroups_change_what_is_trained(tmp_path):
    roots = {"head_ct": str(tmp_path), "other": str(tmp_path)}
    more = {"external": {"root": "other"}, "evaluation": {"subgroups": {"column": "sex"}}}
    plain, asked = (
        plan_of(data_roots=roots, studies={"head_ct": changes}).studies["head_ct"]
        for changes in ({"external": {"root": "other"}}, more)
    )
    assert asked.subgroups_column() == "sex"
    assert set(asked.tables()) - set(plain.tables()) == {"subgroups"}
    for method, *wildcards in (("gan_settings", "dcgan32", "0"), ("classifier_settings", "real"), ("needs_of_split",)):
        assert getattr(plain, method)(*wildcards) == getattr(asked, method)(*wildcards)
    assert plain.predictions() == asked.predictions()
    assert plain.sources[0].reader_settings() == asked.sources[0].reader_settings()


def test_batches_of_scans():
    source = plan_of(studies={"simple_ct_gan": {"data": {"batches": 3}}}).sources["simple_ct_gan"]
    assert source.volumes() == [f"results/simple_ct_gan/scans/batch{batch}.zarr.zip" for batch in range(3)]
    assert [len(paths) for paths in source.batch_files().values()] == [3, 3, 3, 3]


@pytest.mark.parametrize(("images", "shards"), [(64, [64]), (65, [64, 1]), (128, [64, 64]), (3, [3])])
def test_shards_of_images_hold_all_of_them(images, shards):
    simple = study("simple_ct_gan", synthesis={"images_per_class": images, "shard_size": 64})
    paths = simple.shards("baseline")["synthetic_images"]
    assert len(paths) == len(shards)
    settings = [simple.shard_settings("baseline", "0", f"{shard}") for shard in range(len(shards))]
    assert [each["images"] for each in settings] == shards
    assert [each["first_seed"] for each in settings] == [64 * shard for shard in range(len(shards))]


def test_a_network_may_draw_with_the_weights_of_another():
    simple = study("simple_ct_gan")
    weights = simple.generator("baseline_at_64", "1", "chest")["weights"]
    assert weights == "results/simple_ct_gan/gan/baseline/seed1/chest/generator.safetensors"
    assert (simple.image_size("baseline"), simple.image_size("baseline_at_64")) == (40, 64)
    assert simple.features("baseline_at_64", "0")["real"] == "results/simple_ct_gan/features/real/64.safetensors"
    measured = simple.measured("baseline_at_64", "1")
    assert measured["real"] == simple.features("baseline_at_64", "1")["real"]
    assert measured["synthetic_images"] == simple.shards("baseline_at_64", 1)["synthetic_images"]
    # Whether a referee helped to train it is said beside the weights that it draws with.
    assert measured["descriptions"] == ["results/simple_ct_gan/gan/baseline/seed1/chest/generator.json"]
    assert measured["encoder"] == ["results/simple_ct_gan/encoder/64.safetensors"]
    assert study("simple_ct_gan", fidelity={"encoder": None}).encoder("baseline") == []
    assert study("simple_ct_gan", fidelity={"encoder": {"seed": 3}}).encoder_settings() == {"seed": 3, "steps": 150}
    assert simple.network_module("baseline_at_64") == "scangan.models.simple_ct_gan"


def test_every_class_is_drawn_with_the_weights_of_a_conditional_network():
    projected = {"model": "projected_gan", "epochs": 1}
    gans = {"one": projected | {"conditional": True}, "again": {"model": "projected_gan", "weights_of": "one"}}
    covid = study("covid_ct", gan=gans | {"two": projected})
    folder = "results/covid_ct/gan/one/seed1"
    for gan in ("one", "again"):
        for label in covid.labels():
            assert covid.generator(gan, "1", label) == {
                "weights": f"{folder}/generator.safetensors",
                "description": f"{folder}/generator.json",
            }
        assert covid.measured(gan, "1")["descriptions"] == [f"{folder}/generator.json"]
        assert covid.histories(gan) == ["results/covid_ct/gan/one/seed0/history.csv"]
        assert covid.titles_of_histories(gan) == ["all classes"]
    assert covid.shards("one")["synthetic_images"][0] == "results/covid_ct/synthetic/one/seed0/covid/shard0.zarr.zip"
    assert covid.histories("two") == [
        f"results/covid_ct/gan/two/seed0/{label}/history.csv" for label in covid.titles_of_histories("two")
    ]
    assert covid.titles_of_histories("two") == covid.labels()


def test_predictions_go_arm_by_arm_and_with_synthetic_images_generator_by_generator():
    changed = {"classifier": {"arms": ["real", "synthetic"], "seeds": 2}, "gan": {"dcgan32": {"seeds": 2}}}
    changed["synthesis"] = {"gan": "dcgan32"}
    head_ct = study("head_ct", **changed)
    crossed = [f"synthetic/gan_seed{gan_seed}-seed{seed}" for gan_seed in (0, 1) for seed in (0, 1)]
    assert head_ct.predictions() == [
        f"results/head_ct/classifier/{training}/predictions.parquet"
        for training in ("real/seed0", "real/seed1", *crossed)
    ]
    assert head_ct.gan_seeds_of_arms() == {"real": [None, None], "synthetic": [0, 0, 1, 1]}
    swept = study("ct_sgan", classifier={"shares": [0.5], "seeds": 1}, gan={"ct_sgan": {"seeds": 3}})
    assert swept.gan_seeds_of_shares() == {"real": [None], "synthetic-x0.5": [0, 1, 2]}


def test_an_arm_of_a_further_network_has_that_networks_images_and_trainings():
    changed = {"gan": {"pggan": {"seeds": 1}, "projected_gan": {"seeds": 2}}, "classifier": {"seeds": 1}}
    brain_mr = study("brain_mr", **changed)
    own, further = (brain_mr.predictions([arm]) for arm in ("real+synthetic", "real+synthetic:projected_gan"))
    assert own == ["results/brain_mr/classifier/real+synthetic/gan_seed0-seed0/predictions.parquet"]
    folder = "results/brain_mr/classifier/real+synthetic@projected_gan"
    assert further == [f"{folder}/gan_seed{seed}-seed0/predictions.parquet" for seed in (0, 1)]
    assert brain_mr.gan_seeds_of_arms()["real+synthetic:projected_gan"] == [0, 1]
    inputs = brain_mr.arm_inputs("real+synthetic@projected_gan", "gan_seed1-seed0")
    assert inputs["synthetic_images"] == brain_mr.shards("projected_gan", 1)["synthetic_images"]
    assert inputs["verdicts"] == ["results/brain_mr/screening/projected_gan/seed1.parquet"]
    assert brain_mr.classifier_settings("real+synthetic@projected_gan") == brain_mr.classifier_settings(
        "real+synthetic"
    )
    # Shown, and swept, are the images of the study's own.
    assert brain_mr.screened_shards() == brain_mr.arm_inputs("real+synthetic", "gan_seed0-seed0")
    assert not [path for path in brain_mr.share_predictions() if "projected_gan" in path]
    assert brain_mr.verdicts() == [
        f"results/brain_mr/screening/{gan}/seed0.parquet" for gan in ("pggan", "projected_gan")
    ]
    assert brain_mr.gans_of_arms() == ["pggan", "projected_gan"]
    assert study("brain_mr", synthesis={"gan": "projected_gan"}).gans_of_arms() == ["projected_gan"]


def test_volumes_of_a_further_network_are_as_many_and_get_nodules():
    changed = {"synthesis": {"gan": ["ct_sgan", "gan3d"], "volumes": 60, "compared_volumes": 20, "shard_size": 30}}
    ct_sgan = study("ct_sgan", classifier={"arms": ["real", "synthetic", "synthetic:gan3d"]}, **changed)
    volumes = {gan: ct_sgan.volumes_of(gan) for gan in ct_sgan.gans()}
    assert volumes == {"ct_sgan": 60, "ct_sgan_js": 20, "ct_sgan_projected": 20, "gan3d": 60}
    inputs = ct_sgan.arm_inputs("synthetic@gan3d", "gan_seed0-seed0")["synthetic_volumes"]
    assert inputs == ct_sgan.shards("gan3d", 0, "nodules/")["volumes"]
    assert "results/ct_sgan/synthetic/gan3d/seed0/nodules/shard0_rejected.parquet" in ct_sgan.rejected_volumes()
    assert ct_sgan.exported_shard("gan3d", "3")["volumes"] == inputs[0]


def test_a_further_seed_changes_nothing_of_the_others():
    once, twice = (study("head_ct", gan={"dcgan32": {"seeds": seeds}}) for seeds in (1, 2))
    assert once.gan_settings("dcgan32", "0") == twice.gan_settings("dcgan32", "0")
    assert "seeds" not in once.gan_settings("dcgan32", "0")
    first, second = (twice.gan_settings("dcgan32", seed) for seed in ("0", "1"))
    assert second == first | {"seed": first["seed"] + 1}
    assert set(once.predictions()) < set(twice.predictions())
    assert set(once.fidelities()) < set(twice.fidelities())


def test_trainings_of_a_network_differ_in_their_files_and_the_names_of_their_images():
    head_ct, ct_sgan = study("head_ct"), study("ct_sgan")
    assert head_ct.shard_settings("dcgan32", "0", "0")["name"] == "dcgan32"
    assert head_ct.shard_settings("dcgan32", "1", "0")["name"] == "dcgan32-seed1"
    assert ct_sgan.shard_settings("gan3d", "2", "0")["name"] == "gan3d-seed2"
    for kind, paths in head_ct.shards("dcgan32", 1).items():
        assert paths == [path.replace("seed0", "seed1") for path in head_ct.shards("dcgan32")[kind]]


def test_a_network_has_the_seeds_of_the_one_whose_weights_it_draws_with():
    simple = study("simple_ct_gan", gan={"baseline": {"seeds": 2}, "kernel_5": {"seeds": 1}})
    assert list(simple.gan_seeds("baseline_at_64")) == [0, 1]
    assert [path for path in simple.fidelities() if "baseline_at_64" in path] == [
        f"results/simple_ct_gan/fidelity/baseline_at_64/seed{seed}.csv" for seed in (0, 1)
    ]


def test_the_sweep_is_beside_real_images_and_of_volumes_alone():
    assert study("brain_mr", classifier={"shares": [0.5, 4]}).share_arms() == [
        *("real", "real+synthetic-x0.5", "real+synthetic-x4")
    ]
    assert study("ct_sgan", classifier={"shares": [0.5]}).share_arms() == ["real", "synthetic-x0.5"]


def test_only_arms_with_synthetic_images_wait_for_them():
    brain_mr, ct_sgan = study("brain_mr"), study("ct_sgan")
    assert brain_mr.arm_inputs("real+classical", "seed0") == {}
    second = brain_mr.arm_inputs("real+synthetic-x0.5", "gan_seed1-seed0")
    assert second["verdicts"] == ["results/brain_mr/screening/pggan/seed1.parquet"]
    assert second["synthetic_images"] == brain_mr.shards("pggan", 1)["synthetic_images"]
    assert study("head_ct").arm_inputs("synthetic", "gan_seed0-seed0")["verdicts"] == []
    # Copies: only how many synthetic images there are, of the first training.
    copies = brain_mr.arm_inputs("real+copies", "seed1")
    assert set(copies) == {"synthetic_manifests", "verdicts"}
    assert copies["verdicts"] == ["results/brain_mr/screening/pggan/seed0.parquet"]
    assert "synthetic_volumes" not in ct_sgan.arm_inputs("real", "seed1")
    copies, both = (ct_sgan.arm_inputs(*of) for of in (("real+copies", "seed1"), ("real+synthetic", "gan_seed0-seed1")))
    assert set(both) - set(copies) == {"synthetic_volumes"}
    assert copies["synthetic_manifests"] == both["synthetic_manifests"]
    inputs = ct_sgan.arm_inputs("synthetic-x0.25", "gan_seed1-seed0")
    stem = "results/ct_sgan/synthetic/ct_sgan/seed1"
    assert inputs["synthetic_volumes"] == [f"{stem}/shard{shard}.zarr.zip" for shard in (0, 1)]
    assert inputs["synthetic_manifests"] == [f"{stem}/nodules/shard{shard}.parquet" for shard in (0, 1)]


def test_an_arm_reads_just_its_own_settings():
    head_ct = study("head_ct")
    real, classical, tuned = map(head_ct.classifier_settings, ("real", "real+classical", "synthetic-then-real"))
    assert set(classical) - set(real) == {"classical"}
    assert set(tuned) - set(real) == {"pretrain_share", "fine_tune_rate"}
    assert not {"arms", "seeds", "shares"} & set(real)
    assert list(real) == sorted(real)


def test_the_judge_sees_the_positive_class():
    images = study("covid_ct").judged_images("diffaugment")["synthetic_images"]
    assert images
    assert all("/diffaugment/seed0/covid/" in path for path in images)


def test_screening_and_the_map_are_shown():
    brain_mr = study("brain_mr")
    assert {"screening", "classical", "embedding"} <= set(brain_mr.figures())
    assert not {"screening", "classical"} & set(study("head_ct").figures())
    assert brain_mr.first_shards() == {
        "synthetic_images": [
            f"results/brain_mr/synthetic/pggan/seed0/{label}/shard0.zarr.zip" for label in ("tumour", "non_tumour")
        ],
        "synthetic_manifests": [
            f"results/brain_mr/synthetic/pggan/seed0/{label}/shard0.parquet" for label in ("tumour", "non_tumour")
        ],
    }


def test_a_published_judge_judges_alone(tmp_path):
    weights = tmp_path / "judge.pt"
    weights.touch()
    covid_ct = study("covid_ct", judge={"weights": str(weights), "outputs": ["covid", "non_covid"]})
    assert covid_ct.judge_weights("0") == str(weights)
    assert covid_ct.judgements() == {
        "judgements": [f"results/covid_ct/judge/{gan}/seed0.parquet" for gan in covid_ct.gans()],
        "predictions": ["results/covid_ct/judge/real_images.parquet"],
    }
    assert covid_ct.judge_facts()["pretrained"] == "published"
    own = study("covid_ct")
    assert own.judge_weights("1") == "results/covid_ct/classifier/real/seed1/classifier.safetensors"
    assert (own.judge_count(), covid_ct.judge_count()) == (2, 1)
    assert set(covid_ct.judge_settings()) == {"backbone", "batch_size", "image_size", "outputs", "positive"}


def test_exported_images_are_those_of_the_first_training():
    head_ct = study("head_ct", synthesis={"seed": 40}, gan={"dcgan32": {"seeds": 2}})
    files = head_ct.exported("dcgan32", "normal")
    assert files == {
        "weights": "results/head_ct/gan/dcgan32/seed0/normal/generator.safetensors",
        "description": "results/head_ct/gan/dcgan32/seed0/normal/generator.json",
        "fidelity": "results/head_ct/fidelity/dcgan32/seed0.csv",
        "copies": "results/head_ct/fidelity/dcgan32/seed0_copies.csv",
    }
    settings = head_ct.export_settings("dcgan32")
    shard = head_ct.shard_settings("dcgan32", "0", "0")
    assert settings == shard | {"bits": 8, "images": 144, "trained_gan": "dcgan32"}
    assert settings["first_seed"] == 40
    more = study("head_ct", export={"images": 7, "bits": 16}).export_settings("dcgan32")
    assert (more["images"], more["bits"]) == (7, 16)
    assert not [file for file in head_ct.targets() if "exported" in file]


def test_exported_images_of_a_network_that_draws_with_anothers_weights():
    simple = study("simple_ct_gan")
    assert "/gan/baseline/seed0/chest/" in simple.exported("baseline_at_64", "chest")["weights"]
    settings = simple.export_settings("baseline_at_64")
    assert settings["name"] == "baseline_at_64"
    assert (settings["trained_gan"], settings["image_size"]) == ("baseline", 64)


def test_an_unknown_network_or_class_is_not_exported():
    head_ct = study("head_ct")
    with pytest.raises(DataError, match=r"exported/pggan/normal: gan: found 'pggan', allowed: dcgan32"):
        head_ct.exported("pggan", "normal")
    with pytest.raises(DataError, match=r"dcgan32/ill: label: found 'ill', allowed: normal \| haemorrhage"):
        head_ct.exported("dcgan32", "ill")


def test_a_licence_is_no_setting_of_the_reader():
    plan = plan_of(studies={"head_ct": {"data": {"licence": "CC BY 4.0"}}})
    assert plan.sources["head_ct"].reader_settings() == plan_of().sources["head_ct"].reader_settings()
    assert plan.studies["head_ct"].scale == "demo"


def test_volumes_in_shards_and_of_compared_networks():
    ct_sgan = study("ct_sgan", synthesis={"volumes": 70, "compared_volumes": 20, "shard_size": 30})
    assert len(ct_sgan.shards("ct_sgan")["volumes"]) == 3
    settings = {"described": True, "first_seed": 60, "name": "ct_sgan", "size": 56, "volumes": 10}
    assert ct_sgan.shard_settings("ct_sgan", "0", "2") == settings
    assert not ct_sgan.shard_settings("ct_sgan", "1", "2")["described"]
    assert len(ct_sgan.shards("gan3d")["volumes"]) == 1
    settings |= {"first_seed": 0, "name": "gan3d", "volumes": 20}
    assert ct_sgan.shard_settings("gan3d", "0", "0") == settings
    stem = "results/ct_sgan/synthetic/ct_sgan/seed0"
    assert ct_sgan.exported_shard("ct_sgan", "31") == {
        "volumes": f"{stem}/shard1.zarr.zip",
        "manifest": f"{stem}/nodules/shard1.parquet",
    }
    assert ct_sgan.exported_shard("gan3d", "3")["manifest"] == "results/ct_sgan/synthetic/gan3d/seed0/shard0.parquet"
    # Nodules are for the volumes of arms.
    assert set(ct_sgan.injection("ct_sgan")) >= {"injector_weights", "eraser_weights", "annotated_nodules"}
    assert set(ct_sgan.injection_settings("ct_sgan")) == {"attempts", "mix_seed", "placement", "sham", "voi"}
    assert (ct_sgan.versions("ct_sgan"), ct_sgan.versions("gan3d")) == (2, 1)
    assert (ct_sgan.injection("gan3d"), ct_sgan.injection_settings("gan3d")) == ({}, None)
    measured = ct_sgan.measured_sources()
    assert measured["generators"] == [f"results/ct_sgan/gan/{gan}/seed0/generator.json" for gan in ct_sgan.gans()]
    assert len(measured["slices"]) == len(measured["descriptions"]) == 1 + len(ct_sgan.gans())


def test_a_study_of_volumes_may_end_with_its_nodules():
    ct_sgan = DEMO["studies"]["ct_sgan"]
    kept = {key: ct_sgan[key] for key in ("cohorts", "split", "nodules")}
    raw = DEMO | {"studies": DEMO["studies"] | {"ct_sgan": kept}}
    ended = Plan(load(raw), SCALES).studies["ct_sgan"]
    assert ended.tables() == ["cohort", "eraser", "injector", "mix", "scanner"]
    assert ended.figures() == ["vois", "diameters", "edits"]


def test_own_scans_that_are_edited(tmp_path):
    table = tmp_path / "edits.csv"
    table.write_text("series\n")
    changes = {"data_roots": {"mine": str(tmp_path)}}
    changes["studies"] = {"ct_sgan": {"nodules": {"edits": {"root": "mine", "file": str(table)}}}}
    ct_sgan = plan_of(**changes).studies["ct_sgan"]
    assert ct_sgan.own_scans() == str(tmp_path)
    assert ct_sgan.listing_of_own_scans() == "results/data/mine.json"
    assert "results/ct_sgan/nodules/edited" in ct_sgan.targets()


def test_files_of_the_users_own(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("image_id\n")
    brain_mr = study(
        "brain_mr",
        split={"file": str(own)},
        synthesis={"screening": {"overrule": str(own)}},
        reading_room={"readers": [str(own)]},
        classifier={"pretrained": str(own), "arms": ["real"]},
        fidelity={"weights": str(own)},
    )
    assert brain_mr.own_split() == brain_mr.overruling_file("pggan", "0") == brain_mr.readings() == [str(own)]
    # They are verdicts on the images that are shown.
    assert brain_mr.overruling_file("pggan", "1") == brain_mr.overruling_file("projected_gan", "0") == []
    assert brain_mr.pretrained_file() == brain_mr.feature_weights() == [str(own)]
    assert brain_mr.facts("pretrained")["pretrained"] == "file:own.csv"
    as_shipped = study("brain_mr")
    assert as_shipped.own_split() == as_shipped.overruling_file("pggan", "0") == as_shipped.pretrained_file() == []
    assert as_shipped.readings() == ["results/brain_mr/reading_room/simulated/reader1.csv"]


def test_what_is_set_beside_the_papers():
    compared = plan_of().compared_tables()
    assert "results/covid_ct/tables/judge.csv" in compared
    assert "results/ct_sgan/tables/detection.csv" in compared
    assert "results/simple_ct_gan/tables/classification.csv" not in compared


def test_modules_that_scripts_find_by_name():
    plan = plan_of()
    trained = {"study": "brain_mr", "gan": "pggan"}
    assert plan.modules_by_name("train_conditional_gan", trained) == ["scangan.models.pggan"]
    assert plan.modules_by_name("train_gan", trained) == ["scangan.models.pggan", "scangan.training.adversarial"]
    assert plan.modules_by_name("ingest_images", {"study": "brain_mr"}) == ["scangan.ingest.brats"]
    lidc = {"study": "ct_sgan/cohorts/lidc"}
    assert plan.modules_by_name("render_phantom", lidc) == ["scangan.phantoms.chest_dicom"]
    assert "scangan.models.dcgan32" in plan.modules_by_name("compare_with_papers", {})
    assert plan.modules_by_name("score", {"study": "head_ct"}) == []


@pytest.mark.parametrize(
    ("name", "split", "fates"),
    [
        ("head_ct", {}, ("drop", "group")),
        ("covid_ct", {}, ("allow", "allow")),
        ("covid_ct", {"method": "by_patient"}, ("drop", "group")),
        ("head_ct", {"file": str(ROOT / "README.md")}, ("allow", "allow")),
        ("ct_sgan", {"file": str(ROOT / "README.md")}, ("allow", "allow")),
    ],
)
def test_a_split_that_is_given_keeps_its_copies(name, split, fates):
    chosen = study(name, split=split)
    for source in chosen.sources:
        assert source.duplicates() == {"identical": fates[0], "near": fates[1], "threshold": 0.95}
    images = {"head_ct": 32, "covid_ct": 64}
    assert chosen.compared_copies() == ({"image_size": images[name], "threshold": 0.95} if name in images else {})


def test_what_a_study_of_images_needs_of_its_split():
    assert study("head_ct").needs_of_split() == {
        "of": "images",
        "classes": ["normal", "haemorrhage"],
        "least": [("fidelity", ["train"], 2), ("gan.projected_gan.validations", ["validation"], 2)],
        "shares": [],
        "synthetic": 144,
        "remedy": "raise synthesis.images_per_class, or let screening discard fewer",
        "map": None,
    }
    needs = study("brain_mr", synthesis={"images_per_class": 401, "screening": {"neighbours": 5}}).needs_of_split()
    assert needs["least"] == [
        ("fidelity", ["train"], 2),
        ("synthesis.screening.neighbours", ["train"], 5),
        ("synthesis.screening", ["validation"], 4),
        ("gan.projected_gan.validations", ["validation"], 2),
        ("reading_room.images", ["train", "validation", "test"], 20),
    ]
    assert needs["shares"] == [0.25, 0.5, 1, 2, 4]
    assert needs["synthetic"] == 401 - 100
    assert needs["map"] == {"each": 60, "perplexity": 30}
    assert study("simple_ct_gan").needs_of_split()["classes"] == ["chest"]
    # A network whose weights are kept by validation needs images to be compared with.
    needs = study("head_ct", gan={"dcgan32": {"validations": 4}, "projected_gan": {"validations": 0}}).needs_of_split()
    assert needs["least"] == [("fidelity", ["train"], 2), ("gan.dcgan32.validations", ["validation"], 2)]


def test_what_a_study_of_volumes_needs_of_its_mix():
    ct_sgan = study("ct_sgan", synthesis={"volumes": 61})
    assert ct_sgan.needs_of_split() is None
    needs = ct_sgan.needs_of_mix()
    assert needs["classes"] == ["nodules", "none"]
    assert needs["least"] == [("classifier", [part], 1) for part in ("train", "validation", "test")]
    assert (needs["shares"], needs["synthetic"]) == ([0.25, 1], 30)


def test_folds_are_studies_below_the_study_and_it_puts_them_together():
    plan = plan_of(studies={"head_ct": {"split": {"method": "folds", "folds": 3}, "classifier": {"seeds": 2}}})
    head_ct, first = plan.studies["head_ct"], plan.studies["head_ct/fold0"]
    assert [name for name in plan.studies if name.startswith("head_ct")] == [
        "head_ct",
        *(f"head_ct/fold{fold}" for fold in range(3)),
    ]
    assert "head_ct" not in plan.images
    assert "head_ct/fold2" in plan.images
    assert plan.branches == ["head_ct/fold0", "head_ct/fold1", "head_ct/fold2"]
    assert head_ct.predictions(["real"]) == [
        f"results/head_ct/fold{fold}/classifier/real/seed{seed}/predictions.parquet"
        for seed in range(2)
        for fold in range(3)
    ]
    assert first.predictions(["real"])[0] == "results/head_ct/fold0/classifier/real/seed0/predictions.parquet"
    # Shared: the cohort and the features of its images. Its own: the split and the networks.
    assert first.features("dcgan32", "0") == {
        "synthetic": "results/head_ct/fold0/features/dcgan32/seed0.safetensors",
        "synthetic_manifests": first.shards("dcgan32")["synthetic_manifests"],
        "real": "results/head_ct/features/real/32.safetensors",
    }
    assert first.branch_settings() == {"fold": 0, "seed": 0, "share": None}
    assert head_ct.tables() == ["cohort", "classification", "calibration"]
    assert first.tables() == ["fidelity", "networks"]
    assert head_ct.figures() == ["roc", "reliability"]
    assert set(first.targets()) < set(head_ct.targets())
    assert head_ct.facts()["folds"] == 3
    assert first.facts() == {"data": "phantom", "scale": "custom", "study": "head_ct/fold0"}
    assert head_ct.needs_of_split() is None
    assert first.needs_of_split() == study("head_ct", classifier={"seeds": 2}).needs_of_split()


def test_of_several_classes_each_is_drawn_and_one_is_asked_for():
    classes = {"haemorrhage": 1, "normal": 0, "fracture": 2}
    head_ct = plan_of(studies={"head_ct": {"data": {"classes": classes}}}).studies["head_ct"]
    assert set(head_ct.labels()) == set(classes)
    drawn = head_ct.shards("dcgan32")["synthetic_images"]
    assert {path.split("/")[-2] for path in drawn} == set(classes)
    assert head_ct.facts("positive")["negatives"] == ["normal", "fracture"]
    assert "negatives" not in plan_of().studies["head_ct"].facts("positive")


def test_without_folds_nothing_is_put_together():
    head_ct = study("head_ct")
    assert head_ct.folds() == [head_ct]
    assert head_ct.fold_count() == 1
    assert plan_of().branches == []


def test_a_curve_is_the_study_with_fewer_patients():
    curve, head_ct = {"curve": {"real": [1, 0.5, 0.25]}}, study("head_ct")
    plan = plan_of(studies={"head_ct": curve})
    whole, quarter = plan.studies["head_ct"], plan.studies["head_ct/share0.25"]
    assert plan.branches == ["head_ct/share0.5", "head_ct/share0.25"]
    assert whole.curve_shares() == [0.25, 0.5, 1]
    assert whole.curve_predictions() == [
        *quarter.predictions(),
        *plan.studies["head_ct/share0.5"].predictions(),
        *head_ct.predictions(),
    ]
    assert whole.curve_splits()[0] == "results/head_ct/share0.25/split/split.csv"
    assert [table for table in whole.tables() if table not in head_ct.tables()] == ["curve"]
    assert quarter.tables() == ["fidelity", "classification", "calibration"]
    assert quarter.figures() == []
    assert not any("verdict" in target for target in quarter.targets())
    assert quarter.branch_settings() == {"fold": None, "seed": 0, "share": 0.25}


def test_a_curve_of_folds_has_folds_at_each_share():
    plan = plan_of(studies={"head_ct": {"curve": {"real": [0.5]}, "split": {"method": "folds", "folds": 3}}})
    half, fold = plan.studies["head_ct/share0.5"], plan.studies["head_ct/share0.5/fold1"]
    assert set(plan.branches) == {
        "head_ct/share0.5",
        *(f"head_ct/{share}fold{number}" for share in ("", "share0.5/") for number in range(3)),
    }
    assert {name for name in plan.images if name.startswith("head_ct")} == set(plan.branches) - {half.name}
    assert half.tables() == ["classification", "calibration"]
    assert fold.tables() == ["fidelity"]
    assert fold.branch_settings() == {"fold": 1, "seed": 0, "share": 0.5}
    assert half.curve_shares() == [0.5]
    assert len(plan.studies["head_ct"].curve_predictions()) == 2 * len(half.predictions())
