"""The mix: half of the nodules erased, half of the healthy injected, and the label no longer names the scanner."""

import numpy as np
import pandas as pd
import pytest

from scangan.config import Evaluation, VoiCut
from scangan.ct.grain import grain_ratio
from scangan.ct.grids import sphere
from scangan.ct.volume import resample
from scangan.data.scan_store import NODULE_TYPES, write_volumes
from scangan.data.voi import CENTRE
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.scanner import scanner_test
from scangan.phantoms.chest import render_chest
from scangan.rejected import REJECTED_TYPES
from scangan.synthesis.mix import (
    DONE_TYPES,
    MIXED_NODULE_TYPES,
    Mixer,
    choose_mix,
    edit_scans,
    erase_nodules,
    inject_nodules,
    sham_nodules,
)
from scangan.synthesis.placement import PlacementSettings

LUNG, NODULE = -850, 40
VOI = VoiCut(size=16, spacing_mm=2.0, margin_mm=4.0)
ANYWHERE = PlacementSettings(gap_mm=1.0)
PARTS = ("train", "validation", "test")


def cohort(*cells):
    """(scanner, split, patients with nodules, patients without) -> rows of scans."""
    rows = []
    for scanner, split, *counts in cells:
        for label, count in zip(("nodules", "none"), counts, strict=True):
            rows += [
                (f"{name}-0", name, scanner, label, split)
                for name in [f"{scanner}-{split}-{label}-{patient}" for patient in range(count)]
            ]
    return pd.DataFrame(rows, columns=["scan_id", "patient_id", "scanner", "label", "split"])


def vote_accuracy(scanner, label):
    """Balanced accuracy of the majority vote per label; a tie goes to the first name."""
    counts = pd.crosstab(label, scanner, normalize="columns")
    predicted = label.map(counts.idxmax(axis=1))
    return (predicted == scanner).groupby(scanner).mean().mean()


def balances(table):
    """Scans with nodules after the mix over scans without, by part and scanner."""
    sign = table.label_after.map({"nodules": 1, "none": -1})
    return sign.groupby([table.split, table.scanner]).sum().unstack()


# Which scans are edited


@pytest.mark.parametrize("without", [0, 2])
def test_the_label_no_longer_names_the_scanner(without):
    cells = [(name, part, *counts) for part in PARTS for name, counts in (("lidc", (8, without)), ("nlst", (0, 6)))]
    scans = cohort(*cells)
    mixed = choose_mix(scans, 0)
    pd.testing.assert_frame_equal(mixed[scans.columns], scans)
    assert (balances(mixed) == 0).to_numpy().all()
    for _, part in mixed.groupby("split"):
        before = vote_accuracy(part.scanner, part.label)
        assert before == (1 if not without else pytest.approx(0.9))
        assert vote_accuracy(part.scanner, part.label_after) == 0.5
        counts = part.groupby(["scanner", "label"]).edit.value_counts()
        assert counts["lidc", "nodules", "erase"] == counts["lidc", "nodules", ""] == 4
        assert counts["nlst", "none", "inject"] == counts["nlst", "none", ""] == 3
        assert part.edit[(part.scanner == "lidc") & (part.label == "none")].isin(["", "inject"]).all()
    assert (mixed.label_after[mixed.edit == "erase"] == "none").all()
    assert (mixed.label_after[mixed.edit == "inject"] == "nodules").all()
    assert (mixed.label_after == mixed.label)[mixed.edit == ""].all()


@pytest.mark.parametrize("seed", range(5))
def test_odd_patients_leave_the_totals_nearest_to_half(seed):
    scans = cohort(*((name, part, *each) for part in PARTS for name, each in (("lidc", (5, 0)), ("nlst", (0, 3)))))
    mixed = choose_mix(scans, seed)
    balance = balances(mixed)
    assert (balance.abs() == 1).to_numpy().all()
    assert (balance.lidc == balance.nlst).all()  # a part's scanners lean to the same side,
    assert (balance.sum().abs() == 1).all()  # and its parts to different ones
    assert abs((mixed.edit != "").sum() - (mixed.edit == "").sum()) <= 2


@pytest.mark.parametrize("patients", [4, 5])
def test_the_scanner_test_is_at_chance_after_the_mix(patients):
    cells = [("lidc", part, patients, 0) for part in PARTS] + [("nlst", part, 0, patients) for part in PARTS]
    before = choose_mix(cohort(*cells), 1)
    after = before.assign(label=before.label_after)
    table = (
        scanner_test(before, after, Evaluation(bootstrap=100), Facts("s", "phantom", "demo")).set_index("variant").value
    )
    assert table[["before", "after", "chance"]].tolist() == [1, 0.5, 0.5]


@pytest.mark.parametrize("seed", range(5))
def test_an_odd_patient_with_nodules_makes_up_for_one_without(seed):
    mixed = choose_mix(cohort(("lidc", "train", 3, 1), ("nlst", "train", 1, 3)), seed)
    assert (balances(mixed) == 0).to_numpy().all()


def test_same_rows_in_another_order_give_the_same_choice():
    scans = cohort(("lidc", "train", 9, 2), ("nlst", "train", 0, 7), ("lidc", "test", 5, 0), ("nlst", "test", 0, 5))
    mixed = choose_mix(scans, 3)
    again = choose_mix(scans.sample(frac=1, random_state=1), 3)
    pd.testing.assert_frame_equal(again.sort_index(), mixed)
    assert any((choose_mix(scans, seed).edit != mixed.edit).any() for seed in range(4, 8))


@pytest.mark.parametrize("seed", range(20))
def test_any_cohort_is_halved_by_patient(seed):
    """Random patients of one to three scans, some with both labels: scans alike, parts as near to half as can be."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"{patient}-{scan}", patient, scanner, rng.choice(["nodules", "none"], p=[share, 1 - share]), part)
        for part in PARTS
        for scanner, share in (("a", 0.9), ("b", 0.1), ("c", 0.5))
        for patient in [f"{part}-{scanner}-{number}" for number in range(rng.integers(1, 12))]
        for scan in range(rng.integers(1, 4))
    ]
    mixed = choose_mix(pd.DataFrame(rows, columns=["scan_id", "patient_id", "scanner", "label", "split"]), seed)
    chosen = mixed.assign(chosen=mixed.edit != "").groupby("patient_id").chosen
    assert (chosen.nunique() == 1).all()
    sign = mixed.label.map({"nodules": 1, "none": -1})
    leans = sign.groupby([mixed.split, mixed.scanner, mixed.patient_id]).sum()
    for (split, scanner), balance in balances(mixed).stack().items():
        # The odd patients of each lean, in the best of all ways.
        counts = leans[split, scanner].value_counts()
        odd = [lean for lean, count in counts.items() if count % 2]
        best = min(
            abs(sum(odd) - 2 * sum(lean for k, lean in enumerate(odd) if way >> k & 1)) for way in range(1 << len(odd))
        )
        assert abs(balance) == best
        assert chosen.first()[leans[split, scanner].index].sum() == pytest.approx(counts.sum() / 2, abs=len(odd) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scans: scans.drop(columns="scanner"), "mix: columns: found no scanner, allowed: scan_id, patient_id"),
        (lambda scans: scans.assign(label="benign"), "mix: label: found benign, allowed: nodules | none"),
        (
            lambda scans: scans.assign(split="training"),
            "mix: split: found training, allowed: train | validation | test",
        ),
        (lambda scans: scans.assign(split=None), "mix: split: found an empty field, allowed: one for every scan"),
        (lambda scans: pd.concat([scans, scans]), "mix: scan_id: found lidc-train-nodules-0-0 twice"),
        (lambda scans: scans.assign(patient_id="p"), "mix: scanner: found 2 of patient p, allowed: one for all scans"),
    ],
)
def test_what_cannot_be_mixed_is_named(change, message):
    with pytest.raises(DataError) as error:
        choose_mix(change(cohort(("lidc", "train", 2, 0), ("nlst", "train", 0, 2))), 0)
    assert message in str(error.value)


# The edited scans


def erase(vois, radii_mm, seeds):
    return np.full_like(vois, LUNG)


def inject(vois, radii_mm, seeds):
    balls = [sphere(len(voi), VOI.spacing_mm, radius) for voi, radius in zip(vois, radii_mm, strict=True)]
    return np.where(balls, np.float32(NODULE), vois)


def away_mm(shape, centre, spacing):
    return np.linalg.norm((np.moveaxis(np.indices(shape), 0, -1) - np.asarray(centre)) * spacing, axis=-1)


def lung_scan(nodules=(), shape=(40, 44, 48), spacing=1.5):
    """A scan of the store, all lung but for a rim of tissue: row, HU with noise, lungs, labels, and its nodule table.

    nodules: (centre in voxels, diameter in mm).
    """
    rng = np.random.default_rng(0)
    lungs = np.zeros(shape, bool)
    lungs[3:-3, 3:-3, 3:-3] = True
    hounsfield = np.where(lungs, LUNG, NODULE) + rng.normal(0, 20, shape)
    labels = np.zeros(shape, np.uint8)
    rows = []
    for number, (centre, diameter) in enumerate(nodules, 1):
        inside = away_mm(shape, centre, spacing) <= diameter / 2
        hounsfield[inside], labels[inside] = NODULE, number
        rows.append({"nodule": number, **dict(zip(CENTRE, centre, strict=True)), "diameter_mm": 1.4 * diameter})
        rows[-1] |= {"equivalent_diameter_mm": diameter, "readers": 4, "scan_id": "s"}
    table = pd.DataFrame(rows, columns=list(NODULE_TYPES)).astype(NODULE_TYPES)
    scan = {"scan_id": "s", "spacing_mm": spacing, "lung_check": ""}
    scan |= dict.fromkeys(("origin_x_mm", "origin_y_mm", "origin_z_mm"), 10.0)
    return scan, hounsfield.astype(np.int16), lungs, labels, table


def test_erased_scans_have_no_nodule_left_and_change_nowhere_else():
    places = [((10, 12, 12), 6.0), ((28, 30, 33), 12.0), ((12, 33, 30), 9.0)]
    scan, hounsfield, _, labels, table = lung_scan(places)
    other = table.assign(scan_id="other")
    asked = []

    def fill(vois, radii_mm, seeds):
        asked.append((radii_mm[0], seeds[0], vois.copy()))
        return erase(vois, radii_mm, seeds)

    before = hounsfield.copy(), labels.copy()
    edited = erase_nodules(scan, hounsfield, labels, pd.concat([other, table]), fill, VOI, 7)
    assert (hounsfield == before[0]).all()
    assert (labels == before[1]).all()
    assert not edited.has_nodules
    assert edited.label == "none"
    assert not edited.nodules.any()
    assert edited.rejected.empty
    # Not the annotated diameter, which is too large; the largest first.
    np.testing.assert_allclose([radius for radius, _, _ in asked], [6, 4.5, 3], atol=1e-9)
    reach = np.zeros(hounsfield.shape, bool)
    for centre, diameter in places:
        away = away_mm(hounsfield.shape, centre, 1.5)
        reach |= away < diameter / 2 + VOI.margin_mm
        # The scan's own grain stays, and something of edges as sharp as these.
        assert edited.hounsfield[away <= diameter / 2].mean() < LUNG + 250
    assert (edited.hounsfield[~reach] == hounsfield[~reach]).all()
    assert edited.hounsfield.dtype == np.int16
    assert edited.nodules.dtype == np.uint8
    assert edited.done.dtypes.to_dict() == pd.DataFrame(columns=list(DONE_TYPES)).astype(DONE_TYPES).dtypes.to_dict()
    assert edited.done.nodule.tolist() == [2, 3, 1]
    assert (edited.done.action == "erase").all()
    assert edited.done.changed_voxels.sum() == (edited.hounsfield != hounsfield).sum()
    assert edited.done.seed.tolist() == [seed for _, seed, _ in asked]
    assert edited.done.seed.is_unique
    again = erase_nodules(scan, hounsfield, labels, table[::-1], erase, VOI, 7)
    pd.testing.assert_frame_equal(again.done, edited.done)


def test_a_neighbour_sees_what_is_already_erased():
    scan, hounsfield, _, labels, table = lung_scan([((20, 20, 18), 10.0), ((20, 20, 25), 8.0)])
    seen = []

    def fill(vois, radii_mm, seeds):
        seen.append((vois[0] > -200).sum() * VOI.spacing_mm**3)
        return erase(vois, radii_mm, seeds)

    erase_nodules(scan, hounsfield, labels, table, fill, VOI, 0)
    both, second = np.pi / 6 * (1000 + 512), np.pi / 6 * 512
    assert seen[0] == pytest.approx(both, rel=0.25)
    assert seen[1] < 1.1 * second


def test_a_long_nodule_lies_within_radius_and_margin():
    scan, hounsfield, _, labels, table = lung_scan([((20, 20, 20), 6.0)])
    labels[20, 20, 14:27] = 1  # 9 mm to each side
    edited = erase_nodules(scan, hounsfield, labels, table, erase, VOI, 0)
    assert edited.done.diameter_mm.tolist() == [2 * (9 - VOI.margin_mm)]
    # Without any size the voxels tell it.
    unknown = table.assign(diameter_mm=np.nan, equivalent_diameter_mm=np.nan)
    pd.testing.assert_frame_equal(erase_nodules(scan, hounsfield, labels, unknown, erase, VOI, 0).done, edited.done)


def test_what_cannot_be_erased_stays_and_is_named():
    scan, hounsfield, _, labels, table = lung_scan([((20, 22, 24), 25.0), ((8, 9, 40), 6.0), ((30, 8, 8), 6.0)])
    labels[labels == 2] = 0
    table.loc[1, ["diameter_mm", "equivalent_diameter_mm"]] = np.nan
    table = pd.concat([table, table.iloc[2:].assign(nodule=4, z_voxel=0.0, y_voxel=0.0, x_voxel=0.0)])
    edited = erase_nodules(scan, hounsfield, labels, table, erase, VOI, 0)
    rejected = edited.rejected.set_index("source")
    assert rejected.loc["s-n1", ["reason", "found"]].tolist() == ["nodule larger than the VOI", "25.0 mm"]
    assert rejected.loc["s-n2", "reason"] == "nodule without a size"
    assert rejected.loc["s-n4", "reason"] == "nodule at the border of the scan"
    assert rejected.columns.tolist() == list(REJECTED_TYPES)[1:]
    assert not rejected.counted.any()
    assert edited.done.nodule.tolist() == [3]
    assert edited.table.nodule.tolist() == [1, 2, 4]
    assert edited.has_nodules
    assert edited.label == "nodules"
    assert set(np.unique(edited.nodules)) == {0, 1}
    assert (edited.table.source == "annotated").all()
    assert edited.table.seed.isna().all()
    with pytest.raises(DataError, match="s: nodules: found label 1 without a row, allowed: 3"):
        erase_nodules(scan, hounsfield, labels, table[table.nodule == 3], erase, VOI, 0)


def test_an_eraser_is_not_asked_for_more_than_its_training_told_it_of():
    """Its spheres, which hold all of a long nodule, count; not the nodule's size."""
    scan, hounsfield, _, labels, table = lung_scan([((20, 20, 20), 6.0), ((20, 33, 33), 9.0)])
    labels[20, 20, 14:27] = 1  # 9 mm to each side, of which the margin takes 4
    edited = erase_nodules(scan, hounsfield, labels, table, erase, VOI, 0, erased_up_to_mm=9.5)
    rejected = edited.rejected.set_index("source")
    assert rejected.index.tolist() == ["s-n1"]
    assert rejected.loc["s-n1", ["reason", "found"]].tolist() == ["nodule beyond the eraser's training", "10.0 mm"]
    assert edited.done.nodule.tolist() == [2]
    assert (edited.hounsfield[labels == 1] == hounsfield[labels == 1]).all()
    mixer = Mixer(pd.Series({"s": "erase"}), [2], [6.0], inject, erase, ANYWHERE, VOI, 0, erased_up_to_mm=9.5)
    pd.testing.assert_frame_equal(mixer.mix(scan, hounsfield, None, labels, table).rejected, edited.rejected)


def test_injected_nodules_are_spheres_in_the_lungs_and_nothing_else_changes():
    scan, hounsfield, lungs, labels, table = lung_scan([((30, 34, 38), 8.0)])
    diameters = [0.5, 6.0, 8.0, 40.0]  # two do not fit
    edited = inject_nodules(scan, hounsfield, lungs, labels, table, [0, 3], diameters, inject, ANYWHERE, VOI, 5)
    assert edited.rejected.empty
    assert edited.label == "nodules"
    new = edited.table[edited.table.source == "injected"]
    assert edited.table.nodule.tolist() == [1, 2, 3, 4]
    assert len(new) == len(edited.done) == 3
    assert edited.table.dtypes.to_dict() == table.astype({"readers": "Int64"}).dtypes.to_dict() | {
        name: edited.table[name].dtype for name in ("place", "seed", "source")
    }
    assert set(new.equivalent_diameter_mm) <= {6.0, 8.0}
    assert new.seed.is_unique
    assert set(new.place) <= {"parenchyma", "wall"}
    assert edited.table.place[0] == ""
    assert edited.table.readers[0] == 4
    assert new.readers.isna().all()
    reach = np.zeros(labels.shape, bool)
    for row in new.itertuples():
        centre = np.array([row.z_voxel, row.y_voxel, row.x_voxel])
        away = away_mm(labels.shape, centre, 1.5)
        assert ((edited.nodules == row.nodule) == (away <= row.equivalent_diameter_mm / 2)).all()
        assert lungs[tuple(np.rint(centre).astype(int))]
        np.testing.assert_allclose([row.z_mm, row.y_mm, row.x_mm], centre * 1.5 + 10)
        assert edited.hounsfield[away <= row.equivalent_diameter_mm / 2 - 2].mean() > -100
        reach |= away < row.equivalent_diameter_mm / 2 + VOI.margin_mm
    assert (edited.hounsfield[~reach] == hounsfield[~reach]).all()
    assert ((edited.nodules == 1) == (labels == 1)).all()
    assert edited.done.changed_voxels.sum() >= (edited.hounsfield != hounsfield).sum() > 0
    again = inject_nodules(scan, hounsfield, lungs, labels, table, [0, 3], diameters, inject, ANYWHERE, VOI, 5)
    pd.testing.assert_frame_equal(again.table, edited.table)
    assert (again.hounsfield == edited.hounsfield).all()
    other = inject_nodules(
        scan | {"scan_id": "t"}, hounsfield, lungs, 0 * labels, table, 3, diameters, inject, ANYWHERE, VOI, 5
    )
    assert other.table.nodule.tolist() == [1, 2, 3]
    assert not set(other.table.seed) & set(new.seed)


def test_where_a_vois_voxels_are_as_large_nodules_lie_on_them_and_the_table_says_so():
    scan, hounsfield, lungs, labels, table = lung_scan([])
    voi = VoiCut(size=16, spacing_mm=1.5, margin_mm=3.0)  # of an even edge: its centre lies between two voxels
    edited = inject_nodules(scan, hounsfield, lungs, labels, table, 3, [6.0], inject, ANYWHERE, voi, 5)
    places = edited.table[["z_voxel", "y_voxel", "x_voxel"]].to_numpy()
    assert len(places) == 3
    assert (places % 1 == 0.5).all()
    np.testing.assert_allclose(edited.table[["z_mm", "y_mm", "x_mm"]], places * 1.5 + 10)
    for row, place in zip(edited.table.itertuples(), places, strict=True):
        assert ((edited.nodules == row.nodule) == (away_mm(labels.shape, place, 1.5) <= 3.0)).all()


def test_a_nodule_smaller_than_a_voxel_marks_the_nearest():
    scan, hounsfield, lungs, labels, table = lung_scan(spacing=4.0)
    edited = inject_nodules(scan, hounsfield, lungs, labels, table, 1, 2.0, inject, ANYWHERE, VOI, 0)
    nearest = np.rint(edited.table.loc[0, CENTRE].astype(float)).astype(int)
    assert np.argwhere(edited.nodules).tolist() == [nearest.tolist()]


def test_a_scan_without_a_place_says_why():
    scan, hounsfield, lungs, labels, table = lung_scan()

    def without(scan=scan, lungs=lungs):
        edited = inject_nodules(scan, hounsfield, lungs, labels, table, 2, 12.0, inject, ANYWHERE, VOI, 0)
        assert not edited.has_nodules
        assert edited.done.empty
        assert edited.label == "none"
        assert (edited.hounsfield == hounsfield).all()
        assert list(edited.table.columns) == list(MIXED_NODULE_TYPES)
        return edited.rejected[["source", "reason", "found"]].values.tolist()

    assert without(scan | {"lung_check": "one lung"}) == [["s", "lung mask failed", "one lung"]]
    assert without(lungs=lungs & False) == [["s", "no lung", "12.0 mm to place"]] * 2
    thin = np.zeros_like(lungs)
    thin[20, 20] = True
    assert without(lungs=thin) == [["s", "no place for a nodule", "12.0 mm, rule anywhere, 2000 tries"]] * 2
    with pytest.raises(DataError, match="mix: counts: found 0, allowed: one above 0"):
        inject_nodules(scan, hounsfield, lungs, labels, table, [0], 6.0, inject, ANYWHERE, VOI, 0)
    with pytest.raises(DataError, match="mix: diameters_mm: found 30 to 40 mm, allowed: one from 2 to 24 mm"):
        inject_nodules(scan, hounsfield, lungs, labels, table, 1, [30, 40], inject, ANYWHERE, VOI, 0)


def test_a_phantom_scan_is_injected_and_erased_again():
    chest = render_chest((3, 1), "nlst", 64, 8.0, radii_mm=())
    affine = np.diag([*chest.spacing_mm, 1.0])
    affine[:3, 3] = chest.origin_mm
    volume = resample(chest.hounsfield, affine, 3.0, True, -1024)
    lungs = resample((chest.lungs * 100).astype(np.int16), affine, 3.0, True, 0).hounsfield > 50
    scan = {"scan_id": "p", "spacing_mm": 3.0, "lung_check": ""}
    scan |= dict(zip(("origin_x_mm", "origin_y_mm", "origin_z_mm"), volume.origin_mm, strict=True))
    table = pd.DataFrame(columns=list(NODULE_TYPES)).astype(NODULE_TYPES)
    labels = np.zeros(lungs.shape, np.uint8)
    injected = inject_nodules(
        scan, volume.hounsfield, lungs, labels, table, 4, [8.0, 12.0, 16.0], inject, ANYWHERE, VOI, 1
    )
    assert len(injected.table) == 4
    places = injected.table[["x_mm", "y_mm", "z_mm"]].to_numpy()
    np.testing.assert_allclose(volume.to_voxels(places), injected.table[CENTRE].to_numpy(), atol=1e-6)
    dense = injected.hounsfield[injected.nodules > 0]
    assert np.median(dense) > -150 > np.median(volume.hounsfield[injected.nodules > 0])
    erased = erase_nodules(scan, injected.hounsfield, injected.nodules, injected.table, erase, VOI, 2)
    assert not erased.has_nodules
    assert not erased.nodules.any()
    assert len(erased.done) == 4
    reach = np.zeros(lungs.shape, bool)
    for row in injected.table.itertuples():
        reach |= away_mm(lungs.shape, (row.z_voxel, row.y_voxel, row.x_voxel), 3.0) < row.equivalent_diameter_mm / 2 + 4
    assert (erased.hounsfield == volume.hounsfield)[~reach].all()
    assert np.median(erased.hounsfield[injected.nodules > 0]) < -750


def test_a_sham_is_edited_where_nodules_would_be_and_has_none():
    scan, hounsfield, lungs, labels, table = lung_scan([((30, 34, 38), 8.0)])
    arguments = (scan, hounsfield, lungs, labels, table, 3, [6.0, 8.0])
    injected = inject_nodules(*arguments, inject, ANYWHERE, VOI, 5)
    seen = []

    def fill(vois, radii_mm, seeds):
        seen.append((radii_mm[0], seeds[0]))
        return vois + 10

    sham = sham_nodules(*arguments, fill, ANYWHERE, VOI, 5)
    same = [column for column in DONE_TYPES if column not in ("action", "changed_voxels")]
    pd.testing.assert_frame_equal(sham.done[same], injected.done[same])
    assert set(sham.done.action) == {"sham"}
    assert seen == list(zip(sham.done.diameter_mm / 2, sham.done.seed, strict=True))
    assert sham.table.nodule.tolist() == [1]
    np.testing.assert_array_equal(sham.nodules, labels)
    changed = sham.hounsfield - hounsfield
    reach = np.zeros(labels.shape, bool)
    for row in sham.done.itertuples():
        away = away_mm(labels.shape, (row.z_voxel, row.y_voxel, row.x_voxel), 1.5)
        assert (changed[away <= row.diameter_mm / 2] >= 9).all()
        reach |= away < row.diameter_mm / 2 + VOI.margin_mm
    assert not changed[~reach].any()


@pytest.mark.parametrize("sham", [True, False])
def test_scans_that_the_mix_leaves_alone_are_shams_unless_told_otherwise(sham):
    scan, hounsfield, lungs, labels, table = lung_scan()
    mixer = Mixer(pd.Series({"s": ""}), [2], [6.0], inject, lambda vois, *_: vois + 10, ANYWHERE, VOI, 5, sham)
    edited = mixer.mix(scan, hounsfield, lungs, labels, table)
    assert edited.label == "none"
    assert edited.done.action.tolist() == 2 * ["sham"] * sham
    assert (edited.hounsfield != hounsfield).any() == sham


def test_the_places_of_a_batch_are_its_nodules_and_its_edits(tmp_path):
    scan, hounsfield, lungs, labels, table = lung_scan([((30, 34, 38), 8.0)])
    with write_volumes(tmp_path / "before.zarr.zip") as write:
        write("s", hounsfield, lungs, labels)
    mixer = Mixer(pd.Series({"s": ""}), [2], [6.0], inject, lambda vois, *_: vois, ANYWHERE, VOI, 5)
    out = tmp_path / "after.zarr.zip"
    tables = edit_scans(tmp_path / "before.zarr.zip", pd.DataFrame([scan]), table, mixer, out)
    places = tables["places"]
    assert places.source.tolist() == ["annotated", "", ""]
    assert places.diameter_mm.tolist() == [8, 6, 6]
    # Of 33 voxels each, and the same as before: that eraser changes nothing.
    for row, grain in zip(tables["done"].itertuples(), places.grain[1:], strict=True):
        centre = (row.z_voxel, row.y_voxel, row.x_voxel)
        assert grain == grain_ratio(hounsfield, (1.5,) * 3, centre, 3.0, VOI.margin_mm) > 0
