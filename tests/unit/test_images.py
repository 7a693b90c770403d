"""Readers of labelled images: every format, and every fault by its message."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scangan.config import Images
from scangan.data.store import ImageSet, fit_square, scale_images, stretch_square
from scangan.errors import DataError
from scangan.ingest.images import read_image
from scangan.rejected import REJECTED_TYPES, Unusable
from tests.unit.cohorts import read_cohort

RAMP = np.add.outer(np.arange(12) * 8, np.arange(10) * 4).astype(np.uint8)


def settings(**changes) -> Images:
    defaults = {
        "reader": "labelled_images",
        "root": "head_ct",
        "label_column": "hemorrhage",
        "classes": {"normal": 0, "haemorrhage": 1},
        "image_size": 8,
        "max_rejected": 0.5,
    }
    if changes.get("reader") not in (None, "labelled_images"):
        defaults |= {"label_column": None}  # null drops what another reader reads
    return Images.of_kind(defaults | changes)


@pytest.fixture
def cohort(tmp_path):
    """Ten slices in Kaggle's layout; id 0 to 4 bleed."""
    (tmp_path / "head_ct").mkdir()
    for index in range(10):
        Image.fromarray(RAMP + np.uint8(index)).convert("RGB").save(tmp_path / "head_ct" / f"{index:03d}.png")
    write_labels(tmp_path, [f"{index},{int(index < 5)}" for index in range(10)])
    return tmp_path


def write_labels(root, rows, header="id, hemorrhage"):
    (root / "labels.csv").write_text("\n".join([header, *rows, ""]))


def labels(cohort) -> list[str]:
    return (cohort / "labels.csv").read_text().splitlines()[1:]


def rejected_of(cohort, **changes) -> list[tuple[str, str, str]]:
    _, ingested = read_cohort(cohort, settings(**changes), "real")
    rejected = ingested.rejected
    assert rejected.columns.tolist() == list(REJECTED_TYPES)
    assert rejected.counted.all()
    assert (rejected.remedy != "").all()
    return list(zip(rejected.source, rejected.reason, rejected.found, strict=True))


# Whole cohorts


def test_kaggle_layout(cohort):
    image_set, ingested = read_cohort(cohort, settings(), "phantom")
    rejected = ingested.rejected
    assert len(rejected) == 0
    assert image_set.images.shape == (10, 1, 8, 8)
    assert image_set.images.dtype == np.float32
    manifest = image_set.manifest
    assert manifest.image_id.tolist() == [f"{index:03d}" for index in range(10)]
    assert manifest.patient_id.tolist() == manifest.image_id.tolist()
    assert manifest.label.tolist() == ["haemorrhage"] * 5 + ["normal"] * 5
    assert manifest.source[3] == "head_ct/003.png"
    assert set(manifest.data) == {"phantom"}
    assert manifest.spacing_mm.isna().all()


def test_order_of_rows_and_spaces_do_not_matter(cohort):
    first, _ = read_cohort(cohort, settings(), "real")
    write_labels(cohort, [f" {row.replace(',', ' ,  ')} " for row in reversed(labels(cohort))], " id ,hemorrhage  ")
    second, _ = read_cohort(cohort, settings(), "real")
    np.testing.assert_array_equal(first.images, second.images)
    assert first.manifest.equals(second.manifest)


def test_patient_column(cohort):
    write_labels(cohort, [f"{row},p{index // 2}" for index, row in enumerate(labels(cohort))], "id,hemorrhage,patient")
    image_set, _ = read_cohort(cohort, settings(patient_column="patient"), "real")
    assert image_set.manifest.patient_id.tolist() == [f"p{index // 2}" for index in range(10)]


def test_image_folder(tmp_path):
    for folder, count in (("COVID", 3), ("healthy/deeper", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(RAMP).save(tmp_path / folder / f"{folder[0]}{index}.jpg")
    (tmp_path / "COVID" / "notes.txt").write_text("no image")
    chosen = settings(reader="image_folder", classes={"covid": "COVID", "normal": "healthy"})
    image_set, ingested = read_cohort(tmp_path, chosen, "real")
    rejected = ingested.rejected
    assert image_set.manifest.label.tolist() == ["covid"] * 3 + ["normal"] * 2
    assert image_set.manifest.image_id.tolist() == [
        "COVID/C0",
        "COVID/C1",
        "COVID/C2",
        "healthy/deeper/h0",
        "healthy/deeper/h1",
    ]
    assert image_set.manifest.source[4] == "healthy/deeper/h1.jpg"
    assert len(rejected) == 0


# Rejected, and the run goes on


def test_id_without_a_file(cohort):
    write_labels(cohort, [*labels(cohort), "77,1"])
    assert rejected_of(cohort) == [("labels.csv id '77'", "no image file of this id", "none")]


def test_file_without_an_id(cohort):
    write_labels(cohort, labels(cohort)[:-1])
    assert rejected_of(cohort) == [("head_ct/009.png", "no row of this id", "none in labels.csv")]


@pytest.mark.parametrize("content", [b"", b"not an image", None], ids=["zero-size", "text", "truncated"])
def test_unreadable_image(cohort, content):
    path = cohort / "head_ct" / "002.png"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    [(source, reason, found)] = rejected_of(cohort)
    assert source == "head_ct/002.png"
    assert reason == "unreadable image"
    assert found
    assert str(cohort) not in found


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".bmp"])
def test_truncated_image_of_other_formats(cohort, suffix):
    path = cohort / "head_ct" / f"extra{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write_labels(cohort, [*labels(cohort), "extra,1"])
    [(source, reason, found)] = rejected_of(cohort)
    assert source == f"head_ct/extra{suffix}"
    assert reason == "unreadable image"
    assert found


@pytest.mark.parametrize("label", ["2", "", "yes"])
def test_label_that_is_not_of_the_set(cohort, label):
    write_labels(cohort, [f"0,{label}", *labels(cohort)[1:]])
    assert rejected_of(cohort) == [("head_ct/000.png", "label of no class", f"'{label}' in hemorrhage, allowed: 0 | 1")]


def test_row_with_too_few_values(cohort):
    write_labels(cohort, ["0", *labels(cohort)[1:]])
    assert rejected_of(cohort) == [("head_ct/000.png", "label of no class", "'' in hemorrhage, allowed: 0 | 1")]


def test_identical_repeated_row(cohort):
    write_labels(cohort, [*labels(cohort), "3,1", "003,1"])
    image_set, ingested = read_cohort(cohort, settings(), "real")
    rejected = ingested.rejected
    assert len(image_set) == 10
    assert rejected.reason.tolist() == ["repeated row"] * 2
    assert rejected.found.tolist() == ["its id again in labels.csv"] * 2
    assert set(rejected.source) == {"head_ct/003.png"}


def test_contradicting_rows(cohort):
    write_labels(cohort, [*labels(cohort), "3,0"])
    image_set, ingested = read_cohort(cohort, settings(), "real")
    rejected = ingested.rejected
    assert "003" not in set(image_set.manifest.image_id)
    assert rejected.reason.tolist() == ["rows contradict each other"] * 2
    assert rejected.found.tolist() == ["0 | 1 in labels.csv"] * 2


def test_two_files_with_one_id(cohort):
    Image.fromarray(RAMP).save(cohort / "003.jpg")
    assert rejected_of(cohort) == [
        ("003.jpg", "another file has the same id", "head_ct/003.png"),
        ("head_ct/003.png", "another file has the same id", "003.jpg"),
    ]


def test_two_files_with_one_number(cohort):
    Image.fromarray(RAMP).save(cohort / "head_ct" / "0003.png")
    assert len(rejected_of(cohort)) == 2


def test_an_exact_name_goes_before_a_number(cohort):
    Image.fromarray(RAMP).save(cohort / "head_ct" / "3.png")
    write_labels(cohort, [*labels(cohort), "003,0"])
    image_set, ingested = read_cohort(cohort, settings(), "real")
    rejected = ingested.rejected
    assert len(rejected) == 0
    assert dict(zip(image_set.manifest.image_id, image_set.manifest.label, strict=True))["003"] == "normal"


def test_missing_patient(cohort):
    write_labels(
        cohort, [f"{row},{'p' if index else ''}" for index, row in enumerate(labels(cohort))], "id,hemorrhage,who"
    )
    assert rejected_of(cohort, patient_column="who") == [
        ("head_ct/000.png", "missing patient", "nothing in who, allowed: the patient's name")
    ]


def test_two_classes_may_have_files_of_one_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for file in ("same.png", "twice.png", "twice.jpg"):
            Image.fromarray(RAMP).save(tmp_path / folder / file)
    chosen = settings(reader="image_folder", classes={"normal": "a", "haemorrhage": "b"}, max_rejected=0.7)
    image_set, ingested = read_cohort(tmp_path, chosen, "real")
    rejected = ingested.rejected
    assert image_set.manifest.image_id.tolist() == ["a/same", "b/same"]
    assert set(rejected.reason) == {"another file has the same id"}
    assert sorted(rejected.found) == [f"{folder}/twice.{ending}" for folder in "ab" for ending in ("jpg", "png")]


# Fatal


def test_what_is_hidden_or_left_by_a_system_is_no_image(cohort):
    before, _ = read_cohort(cohort, settings(), "real")
    for name in ("._0.png", ".ipynb_checkpoints/0.png", "__MACOSX/0.png"):
        path = cohort / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not an image")
    after, ingested = read_cohort(cohort, settings(), "real")
    assert len(ingested.rejected) == 0
    assert after.manifest.equals(before.manifest)


def test_csv_missing(cohort):
    (cohort / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv: labels: found no such file, allowed: a CSV"):
        read_cohort(cohort, settings(), "real")


@pytest.mark.parametrize("content", [b"", b'id,hemorrhage\n"0,1\n', b"id,hemorrhage\n\xff\xfe,1\n"])
def test_csv_unreadable(cohort, content):
    (cohort / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.csv: labels: found .*, allowed: a CSV in UTF-8"):
        read_cohort(cohort, settings(), "real")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id_column": "name"}, "id_column"),
        ({"label_column": "x"}, "label_column"),
        ({"patient_column": "y"}, "patient_col"),
    ],
)
def test_csv_without_a_column(cohort, changes, field):
    with pytest.raises(DataError, match=rf"labels\.csv: {field}\w*: found columns id, hemorrhage; allowed: one named"):
        read_cohort(cohort, settings(**changes), "real")


def test_class_folder_missing(tmp_path):
    (tmp_path / "COVID").mkdir()
    chosen = settings(reader="image_folder", classes={"covid": "COVID", "normal": "healthy"})
    with pytest.raises(DataError, match=r"healthy: classes\.normal: found no such folder, allowed: .* there: COVID"):
        read_cohort(tmp_path, chosen, "real")


def test_nothing_usable(cohort):
    for path in (cohort / "head_ct").iterdir():
        path.unlink()
    reasons = r"10 no image file of this id; first labels\.csv id '0': none"
    with pytest.raises(DataError, match=rf"images: found none that is usable \({reasons}\), allowed: \.png"):
        read_cohort(cohort, settings(), "real")


def test_class_left_empty(cohort):
    write_labels(cohort, [f"{index},0" for index in range(10)])
    with pytest.raises(
        DataError, match=r"classes\.haemorrhage: found no usable image of value '1', allowed: at least 1"
    ):
        read_cohort(cohort, settings(), "real")


def test_too_many_rejected(cohort, caplog):
    write_labels(cohort, [*labels(cohort)[:-2], "8,7", "9,7"])
    assert len(rejected_of(cohort, max_rejected=0.2)) == 2
    reasons = r"2 label of no class; first head_ct/008\.png: '7' in hemorrhage, allowed: 0 \| 1"
    message = rf"max_rejected: found 2 of 10 images rejected \({reasons}\), allowed: 1 \(0\.19\)"
    with pytest.raises(DataError, match=message) as error:
        read_cohort(cohort, settings(max_rejected=0.19), "real")
    assert "\n" not in str(error.value)
    # The table of them is not written then: all of them stand in the log.
    assert (
        "rejected: head_ct/009.png: label of no class: found '7' in hemorrhage, allowed: 0 | 1; correct" in caplog.text
    )


# Pixels


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_8_bit_lossless(tmp_path, suffix, mode):
    path = save(tmp_path / f"a{suffix}", RAMP, mode)
    np.testing.assert_allclose(read_image(path, 1), RAMP[None] / 255, atol=1e-6)
    np.testing.assert_allclose(read_image(path, 3), np.stack([RAMP] * 3) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(tmp_path, mode):
    path = save(tmp_path / "a.jpeg", RAMP, mode, quality=95)
    np.testing.assert_allclose(read_image(path, 1), RAMP[None] / 255, atol=0.03)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_keeps_its_depth(tmp_path, suffix):
    pixels = np.arange(120, dtype=np.uint16).reshape(12, 10) * 3 + 40000
    path = save(tmp_path / f"a{suffix}", pixels)
    np.testing.assert_allclose(read_image(path, 1), pixels[None] / 65535, atol=1e-7)
    assert read_image(path, 3).shape == (3, 12, 10)


def test_alpha_is_composited_on_black(tmp_path):
    alpha = np.full_like(RAMP, 51)
    for name, pixels in (("la", [RAMP, alpha]), ("rgba", [RAMP, RAMP, RAMP, alpha])):
        path = save(tmp_path / f"{name}.png", np.dstack(pixels))
        np.testing.assert_allclose(read_image(path, 1), RAMP[None] / 255 * 0.2, atol=1e-6)


def test_transparent_palette_entry_is_black(tmp_path):
    image = Image.fromarray(RAMP).convert("RGB").quantize(200)
    corner = image.getpixel((9, 11))
    image.save(tmp_path / "a.png", transparency=corner)
    assert read_image(tmp_path / "a.png", 1)[0, -1, -1] == 0
    assert read_image(tmp_path / "a.png", 1)[0, 5, 5] > 0


def test_colour_becomes_luminance(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    path = save(tmp_path / "a.png", colours)
    np.testing.assert_allclose(read_image(path, 1)[0, 0], [0.299, 0.587, 0.114], atol=1e-6)
    np.testing.assert_array_equal(read_image(path, 3)[:, 0], np.eye(3))


def test_bilevel(tmp_path):
    path = save(tmp_path / "a.png", RAMP > 50)
    np.testing.assert_array_equal(read_image(path, 1)[0], RAMP > 50)


def test_other_depths_and_pages_are_refused(tmp_path):
    with pytest.raises(Unusable, match=r"another depth: found mode F \(32 bit\), allowed: 8 or 16 bit"):
        read_image(save(tmp_path / "a.tif", RAMP.astype(np.float32)), 1)
    page = Image.fromarray(RAMP)
    page.save(tmp_path / "b.tif", save_all=True, append_images=[page])
    with pytest.raises(Unusable, match="several pages: found 2, allowed: 1"):
        read_image(tmp_path / "b.tif", 1)


@pytest.mark.parametrize(("edge", "size"), [(64, 16), (64, 32), (96, 32), (512, 32)])
def test_checkerboard_becomes_flat_grey(edge, size):
    board = (np.indices((edge, edge)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(fit_square(board[None], size)[0, 1:-1, 1:-1], 0.5, atol=0.01)


@pytest.mark.parametrize(
    ("height", "width", "inner"),
    [(64, 32, (16, 8)), (30, 60, (8, 16)), (8, 8, (16, 16)), (4, 2, (16, 8)), (400, 3, (16, 1))],
)
def test_proportions_are_kept_by_centred_zeros(height, width, inner):
    square = fit_square(np.ones((3, height, width), np.float32), 16)
    assert square.shape == (3, 16, 16)
    rows, columns = np.nonzero(square[0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == inner
    assert (rows.min(), columns.min()) == ((16 - inner[0]) // 2, (16 - inner[1]) // 2)
    assert square[square > 0].min() > 0.999


def test_scale_images():
    manifest = pd.DataFrame({"image_id": ["a", "b"]})
    images = ImageSet(np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32), manifest)
    assert scale_images(images, None) is images
    assert scale_images(images, 32) is images
    smaller = scale_images(images, 8)
    assert smaller.images.shape == (2, 3, 8, 8)
    assert list(smaller.manifest.image_id) == ["a", "b"]
    np.testing.assert_array_equal(smaller.images[1], fit_square(images.images[1], 8))


# Stretched


def test_stretch_square_fills_the_square_and_keeps_flat_regions():
    image = np.zeros((2, 6, 30), np.float32)
    image[:, :, 15:] = 1
    square = stretch_square(image, 12)
    assert square.shape == (2, 12, 12)
    assert square.dtype == np.float32
    assert square[:, :, :5].max() == 0
    assert square[:, :, 7:].min() == 1


@pytest.mark.parametrize("edge", [8, 32, 96])
def test_stretch_square_is_fit_square_where_nothing_needs_stretching(edge):
    image = np.random.default_rng(0).random((3, edge, edge), dtype=np.float32)
    np.testing.assert_array_equal(stretch_square(image, 32), fit_square(image, 32))


def test_stretch_square_does_not_alias():
    board = (np.indices((64, 256)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(stretch_square(board[None], 16)[0, 1:-1, 1:-1], 0.5, atol=0.01)


def test_oblong_images_are_padded_or_stretched(cohort):
    padded, _ = read_cohort(cohort, settings(), "real")
    stretched, _ = read_cohort(cohort, settings(fit="stretch"), "real")
    # The slices are 12 rows of 10: one side of the padded ones is black.
    assert padded.images[5, 0, :, -1].max() == 0
    assert stretched.images[5, 0, :, -1].min() > 0


def test_opaque_refuses_any_transparency(tmp_path):
    alpha = np.full_like(RAMP, 255)
    path = save(tmp_path / "a.png", np.dstack([RAMP, RAMP, RAMP, alpha]))
    np.testing.assert_array_equal(read_image(path, 1, opaque=True), read_image(path, 1))
    alpha[0, :6] = 254
    save(path, np.dstack([RAMP, RAMP, RAMP, alpha]))
    with pytest.raises(Unusable, match=r"transparent pixels: found 5\.0% of the pixels, allowed: none"):
        read_image(path, 1, opaque=True)


def test_only_covid_ct_has_a_split_of_its_own(cohort):
    image_set, ingested = read_cohort(cohort, settings(), "real")
    official = ingested.official
    assert len(image_set) == 10
    assert official.columns.tolist() == ["image_id", "split"]
    assert official.empty
