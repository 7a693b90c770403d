"""Images that leave: PNG files that other programs read, a table of them, and a card."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image

from scangan.errors import DataError
from scangan.facts import Facts
from scangan.report.exported_images import COLUMNS, Origin, export_images, png

NETWORK = {
    "gan": "dcgan32",
    "label": "sick",
    "model": "dcgan32",
    "channels": 1,
    "image_size": 4,
    "training_images": 72,
    "steps": 450,
    "trained_against": [],
}
SCORES = [
    ("energy_distance", 0.25, 0.2, 0.31, 8, 0.01, -0.02, 0.04),
    ("radiomics_distance", 0.5, 0.4, 0.6, 8, 0.02, -0.0001, 0.05),
    ("suspected_copies", 0.125, 0.02, 0.47, 8, 0.05, np.nan, np.nan),
    ("planted_exact", 1.0, 0.9, 1.0, 30, np.nan, np.nan, np.nan),
    ("planted_shifted", 0.8, 0.7, 0.9, 30, np.nan, np.nan, np.nan),
    ("membership_auc", 0.55, 0.45, 0.65, 72, 0.5, np.nan, np.nan),
]
COPIES = [("dcgan32-sick-1", "patient7", 0.99, True), ("dcgan32-sick-0", "patient8", 0.5, False)]


def origin(study=None, licence=None, variant="dcgan32/sick", **network):
    names = ["metric", "value", "ci_low", "ci_high", "images", "reference", "reference_low", "reference_high"]
    scores = pd.DataFrame(SCORES, columns=names).assign(variant=variant)
    copies = pd.DataFrame(COPIES, columns=["image_id", "nearest_image_id", "agreement", "suspected"])
    others = scores.assign(variant="dcgan32/healthy", value=9.0)
    return Origin(
        network=NETWORK | network,
        trained_gan="dcgan32",
        weights_sha256="f00d",
        study=study or Facts("my_study", "phantom", "demo", extractor="efficientnet-lite0"),
        licence=licence,
        scores=pd.concat([others, scores]),
        copies=copies.assign(variant=variant),
    )


def drawn(channels=1, images=3):
    """Two batches of images [N, C, 4, 4]."""
    pixels = np.random.default_rng(0).random((images, channels, 4, 4)).astype(np.float32)
    pixels[0, 0, 0, :2] = 0, 1
    names = [f"dcgan32-sick-{seed}" for seed in range(images)]
    rows = pd.DataFrame({"image_id": names, "label": "sick", "source": "dcgan32/sick", "data": "phantom"})
    rows["synthesis_seed"] = pd.array(range(images), dtype="Int64")
    return pixels, [(pixels[:2], rows[:2]), (pixels[2:], rows[2:])]


def read_by_pillow(file):
    with Image.open(file) as image:
        return np.asarray(image)


def read_by_itk(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(file))


@pytest.mark.parametrize(
    ("channels", "bits", "readers"),
    [
        (1, 8, [read_by_pillow, read_by_itk]),
        (1, 16, [read_by_pillow, read_by_itk]),
        (3, 8, [read_by_pillow, read_by_itk]),
        (3, 16, [read_by_itk]),  # of which Pillow reads 8 bits
    ],
)
def test_other_programs_read_the_same_grey_values(tmp_path, channels, bits, readers):
    pixels, batches = drawn(channels)
    export_images(tmp_path / "out", batches, bits, origin(channels=channels))
    for number, image in enumerate(pixels):
        expected = np.rint(image.astype(float) * (2**bits - 1)).transpose(1, 2, 0).squeeze()
        for read in readers:
            found = read(tmp_path / f"out/dcgan32-sick-{number}.png")
            assert found.dtype == f"uint{bits}"
            np.testing.assert_array_equal(found, expected)
    with Image.open(tmp_path / "out/dcgan32-sick-0.png") as image:
        assert image.size == (4, 4)
        assert (image.mode == "RGB") == (channels == 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 1), (5, 3, 3)])
def test_a_png_of_any_shape_is_whole(tmp_path, shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png(pixels, {}))
    with Image.open(tmp_path / "a.png") as image:
        image.verify()
    np.testing.assert_array_equal(read_by_pillow(tmp_path / "a.png"), pixels.squeeze(2) if shape[2] == 1 else pixels)


def test_each_file_says_that_it_is_synthetic(tmp_path):
    export_images(tmp_path / "out", drawn()[1], 8, origin())
    with Image.open(tmp_path / "out/dcgan32-sick-2.png") as image:
        assert image.text == {
            "Title": "SYNTHETIC dcgan32-sick-2",
            "Description": "SYNTHETIC image, drawn by the generative network dcgan32/sick from seed 2; it learnt from "
            "phantom images (my_study)",
            "Disclaimer": "SYNTHETIC: shows no patient; for research, not for diagnosis",
            "Software": "Scangan",
        }


def test_the_table_has_a_row_an_image(tmp_path):
    export_images(tmp_path / "out", drawn()[1], 8, origin())
    table = pd.read_csv(tmp_path / "out/metadata.csv")
    assert list(table.columns) == COLUMNS
    assert table["file"].tolist() == [f"dcgan32-sick-{seed}.png" for seed in range(3)]
    assert table["seed"].tolist() == [0, 1, 2]
    for column, value in {"label": "sick", "origin": "SYNTHETIC", "data": "phantom", "weights_sha256": "f00d"}.items():
        assert set(table[column]) == {value}
    digests = [hashlib.sha256((tmp_path / "out" / file).read_bytes()).hexdigest() for file in table["file"]]
    assert table["sha256"].tolist() == digests
    # The third was not checked.
    assert table["agreement"].tolist()[:2] == [0.5, 0.99]
    assert table["suspected"].tolist()[:2] == [False, True]
    assert table[["agreement", "suspected"]].isna().all(axis=1).tolist() == [False, False, True]
    # Whose image is nearest, does not leave.
    assert not [file for file in (tmp_path / "out").iterdir() if b"patient7" in file.read_bytes()]


def card_of(folder, bits=8, **facts):
    export_images(folder, drawn()[1], bits, origin(**facts))
    return (folder / "README.md").read_text()


def test_the_card_says_what_the_images_are(tmp_path):
    card = card_of(tmp_path / "results/my_study/exported/dcgan32/sick")
    for said in (
        "# SYNTHETIC: sick (my_study)",
        "| images | 3, 4 x 4 pixels, grey, PNG of 8 bits (white: 255) |",
        "| learnt from | phantom data, 72 images of this class |",
        "| licence of the data | none: Scangan renders this phantom |",
        "| scale | demo |",
        "| efficientnet-lite0 | 0.250 [0.200, 0.310] | 0.010 [-0.020, 0.040] |",
        "| radiomics | 0.500 [0.400, 0.600] | 0.020 [0.000, 0.050] |",
        "of 8 images that it drew",
        "Share of 8 images of this network that are suspiciously like a training image: 0.125 [0.020, 0.470]; expected "
        "of fresh real images: 0.050.",
        "the same check suspects: exact 1.00, shifted 0.80.",
        "0.550 [0.450, 0.650]; 0.5 tells nothing",
        "Of the 3 images here 2 were checked, and 1 of them are suspected",
        "nothing about medicine",
        "snakemake results/my_study/exported/dcgan32/sick --cores 2 --resources gpu=1 --config "
        "studies='{my_study: {export: {images: 1000}}}'",
        'network = scangan.load("results/my_study/gan/dcgan32")',
        'images = network.draw({"sick": 1000}, seed=0)["sick"]  # float32 [1000, 1, 4, 4] in [0, 1]',
    ):
        assert said in card, said
    assert "encoder" not in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize("licence", ["CC BY 4.0, Nobody et al.", None])
def test_the_card_of_real_data_says_their_licence(tmp_path, licence):
    real = Facts("my_study", "real", "custom", extractor="efficientnet-lite0")
    card = card_of(tmp_path / "out", study=real, licence=licence)
    assert f"| licence of the data | {licence or 'not said (`data.licence`): ask'}" in card
    assert "nothing about medicine" not in card


def test_the_card_of_a_fold_of_one_class_and_of_a_network_that_knows_the_features(tmp_path):
    fold = Facts("my_study/fold1", "phantom", "demo", extractor="efficientnet-lite0")
    facts = {"study": fold, "variant": "dcgan32/all", "trained_against": ["efficientnet-lite0"]}
    folder = Path("results/my_study/fold1/exported/dcgan32/sick")
    card = card_of(tmp_path / folder, **facts)
    assert f"snakemake {folder} " in card
    assert "studies='{my_study: {export:" in card
    assert 'scangan.load("results/my_study/fold1/gan/dcgan32")' in card
    assert "| radiomics | 0.500" in card
    assert "trained against the features of efficientnet-lite0, which therefore must not judge it" in card


def test_the_same_images_are_the_same_files(tmp_path):
    for name in ("a", "b"):
        export_images(tmp_path / name / "results/my_study/exported/dcgan32/sick", drawn()[1], 16, origin())
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).rglob("*") if file.is_file()} for name in ("a", "b")
    )
    assert len(first) == 5
    assert first == second


def test_a_folder_is_there_as_a_whole_or_not_at_all(tmp_path):
    def broken():
        yield drawn()[1][0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_images(tmp_path / "out", broken(), 8, origin())
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="found files, allowed: a new or an empty folder"):
        export_images(tmp_path, drawn()[1], 8, origin())
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
