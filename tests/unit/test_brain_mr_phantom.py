"""The brain MR phantom: BRATS's layout, read by the real reader, plausible brains, the same for the same seed."""

import nibabel
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from scangan.config import Brats
from scangan.phantoms.brain_mr import ENHANCING, NECROSIS, OEDEMA, render_brain, write_phantom
from tests.unit.cohorts import read_cohort

PATIENTS, SIZE = 8, 64
SETTINGS = Brats(reader="brats", root="brain_mr", padded_size=SIZE, image_size=SIZE, max_rejected=0)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=PATIENTS, image_size=SIZE, seed=0)
    return folder


@pytest.fixture(scope="module")
def brains(phantom):
    """T1 after contrast and labels of each patient, [Z, Y, X]."""
    return [
        [np.asarray(nibabel.load(path / f"{path.name}_{kind}.nii.gz").dataobj).T for kind in ("t1ce", "seg")]
        for path in sorted(phantom.glob("PHANTOM-*"))
    ]


def test_layout_and_headers_are_those_of_brats(phantom):
    names = [f"PHANTOM-{number:03d}" for number in range(PATIENTS)]
    assert sorted(path.name for path in phantom.iterdir()) == [*names, "README.txt"]
    assert "PHANTOM" in (phantom / "README.txt").read_text()
    for name in names:
        assert sorted(path.name for path in (phantom / name).iterdir()) == [f"{name}_seg.nii.gz", f"{name}_t1ce.nii.gz"]
        for kind, dtype in (("t1ce", np.int16), ("seg", np.uint8)):
            image = nibabel.load(phantom / name / f"{name}_{kind}.nii.gz")
            assert image.shape == (SIZE, SIZE, 155)
            assert image.get_data_dtype() == dtype
            expected = np.diag([-240 / SIZE, -240 / SIZE, 1, 1])
            expected[1, 3] = 239
            np.testing.assert_allclose(image.affine, expected, atol=1e-5)


def test_the_real_reader_takes_every_patient(phantom):
    image_set, ingested = read_cohort(phantom, SETTINGS, "phantom")
    rejected, dropped = ingested.rejected, ingested.dropped
    assert rejected.empty
    assert image_set.images.shape[1:] == (1, SIZE, SIZE)
    rows = image_set.manifest
    assert rows.patient_id.nunique() == PATIENTS
    assert len(image_set) + dropped.slices.sum() == PATIENTS * 155
    # The paper keeps 58% of the slices asked for, 57% of them with a tumour.
    assert 0.5 < len(image_set) / (PATIENTS * 101) < 0.9
    assert 0.3 < (rows.label == "tumour").mean() < 0.7
    assert (rows.groupby("patient_id").label.nunique() == 2).sum() >= PATIENTS - 1
    assert len(np.unique(image_set.images.reshape(len(rows), -1), axis=0)) == len(rows)


def test_brains_are_stripped_whole_and_of_a_brains_size(brains):
    for t1c, _ in brains:
        brain = t1c > 0
        assert t1c.min() == 0
        assert not brain[:, [0, -1]].any()
        assert not brain[:, :, [0, -1]].any()
        millilitres = brain.sum() * (240 / SIZE) ** 2 / 1000
        assert 1000 < millilitres < 1800
        pieces, _ = label(brain)
        assert np.bincount(pieces.ravel())[1:].max() > 0.995 * brain.sum()
        widest = brain.any((0, 1)).sum() * 240 / SIZE, brain.any((0, 2)).sum() * 240 / SIZE
        assert 120 < widest[0] < 160
        assert 155 < widest[1] < 200


def test_tissues_have_the_contrast_of_t1(brains):
    for t1c, labels in brains:
        brain = t1c > 0
        healthy = brain & (labels == 0)
        grey = np.percentile(t1c[healthy], [5, 40, 75])
        # The brain's rim is cortex, darker than the white matter between the hemispheres' cortex and their nuclei.
        rim = healthy & binary_dilation(~brain) & (np.arange(155) > 80)[:, None, None]
        assert np.median(t1c[rim]) < 0.9 * grey[2]
        necrosis, oedema, enhancing = (t1c[labels == value] for value in (NECROSIS, OEDEMA, ENHANCING))
        assert np.median(enhancing) > 1.15 * grey[2]
        assert np.median(oedema) < 0.9 * grey[2]
        if len(necrosis) > 500:  # smaller ones are thinner than a pixel
            assert np.median(necrosis) < 0.85 * np.median(oedema)
    # Fluid is dark: there are ventricles near the middle of the slices above the basal ganglia.
    middle = np.s_[85:95, SIZE // 2 - 8 : SIZE // 2 + 10, SIZE // 2 - 6 : SIZE // 2 + 6]
    for t1c, _ in brains:
        assert np.percentile(t1c[middle], 2) < 0.5 * np.median(t1c[middle])


def test_tumours_are_layered(brains):
    with_core = 0
    for t1c, labels in brains:
        assert set(np.unique(labels)) <= {0, NECROSIS, OEDEMA, ENHANCING}
        assert (labels == ENHANCING).any()
        assert (labels == OEDEMA).any()
        assert not labels[t1c == 0].any()
        core = labels == NECROSIS
        if core.any():
            with_core += 1
            # A voxel next to the core is mostly rim, though that is often thinner than a pixel here.
            around = binary_dilation(core) & ~core & (t1c > 0)
            assert (labels[around] == ENHANCING).mean() > 0.5
        # A tumour lies on one side of the head.
        halves = [(labels[:, :, half] > 0).sum() for half in (np.s_[: SIZE // 2], np.s_[SIZE // 2 :])]
        assert max(halves) > 0.7 * sum(halves)
    assert with_core >= PATIENTS / 2


def test_seed_decides(phantom, tmp_path):
    write_phantom(tmp_path / "three", patients=3, image_size=32, seed=1)
    first = {path.name: path.read_bytes() for path in (tmp_path / "three").rglob("*.gz")}
    write_phantom(tmp_path / "two", patients=2, image_size=32, seed=1)
    again = {path.name: path.read_bytes() for path in (tmp_path / "two").rglob("*.gz")}
    # A smaller cohort is the beginning of the larger one.
    assert again == {name: content for name, content in first.items() if "002" not in name}
    assert len(set(first.values())) == 6
    other, _ = render_brain([2, 0], 32)
    assert (other != render_brain([1, 0], 32)[0]).any()


def test_size_in_millimetres_does_not_go_by_resolution():
    for size in (32, 64):
        volumes = [(render_brain([3, n], size)[0] > 0).sum() * (240 / size) ** 2 / 1000 for n in range(2)]
        assert all(1000 < volume < 1800 for volume in volumes)


def test_an_interrupted_phantom_leaves_nothing(tmp_path, monkeypatch):
    def stop(seed, image_size):
        if seed[1] == 1:
            raise KeyboardInterrupt
        return render_brain(seed, image_size)

    monkeypatch.setattr("scangan.phantoms.brain_mr.render_brain", stop)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "phantom", patients=2, image_size=32, seed=0)
    assert list(tmp_path.iterdir()) == []
