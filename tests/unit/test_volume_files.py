"""Volume files as other libraries write them, and as nobody should: read with right values, or refused by name."""

import gzip
import os
import struct
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from scangan.ingest.volume_files import open_volume, read_volume_file
from scangan.rejected import Unusable

SHAPE = (12, 20, 24)
BODY = np.s_[:, 5:15, 5:15]
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def scan():
    """Air, and muscle with bone: int16 [slices, rows, columns]."""
    random = np.random.default_rng(0)
    hounsfield = random.normal(-1000, 20, SHAPE)
    hounsfield[BODY] = random.normal(40, 40, hounsfield[BODY].shape)
    hounsfield[:, 9, 9] = 900
    return np.rint(hounsfield).clip(-1024).astype(np.int16)


def write_nifti(path, values, affine=AFFINE, kind=nibabel.Nifti1Image):
    nibabel.save(kind(values.T, affine), path)
    return path


def nifti_with(path, form, offset, *values):
    """A NIfTI file of which some bytes of the header are others."""
    content = bytearray(write_nifti(path, scan()).read_bytes())
    struct.pack_into(f"<{form}", content, offset, *values)
    path.write_bytes(content)
    return path


def metaimage_with(path, compress=False, **changes):
    """A MetaImage file of which some lines of the header are others."""
    sitk.WriteImage(sitk.GetImageFromArray(scan()), path.with_name("whole.mha"), useCompression=compress)
    header, _, voxels = path.with_name("whole.mha").read_bytes().partition(b"ElementDataFile = LOCAL\n")
    fields = dict(line.split(" = ") for line in header.decode().splitlines()) | changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile", "LOCAL")  # the last line
    path.write_bytes("".join(f"{key} = {value}\n" for key, value in fields.items()).encode() + voxels)
    return path


# As others read them


GRIDS = {
    "sform": lambda header: header.set_sform(
        np.array([[0, 2, 0, 5], [-1.5, 0, 0, 6], [0, 0, 3, 7.0], [0, 0, 0, 1]]), 1
    ),
    "qform": lambda header: (header.set_qform(np.diag([-1.0, 2, 3, 1]), 1), header.set_sform(None, 0)),
    "metres": lambda header: (header.set_sform(np.diag([0.001, 0.002, 0.003, 1]), 1), header.set_xyzt_units("meter")),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_the_grid_of_nifti_is_nibabels(tmp_path, grid, kind):
    image = kind(scan().T, None)
    GRIDS[grid](image.header)
    nibabel.save(image, tmp_path / "a.nii.gz")
    voxels, affine = read_volume_file(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(voxels, scan())
    scale = np.diag([1000, 1000, 1000, 1]) if grid == "metres" else np.eye(4)
    expected = np.diag([-1, -1, 1, 1]) @ scale @ nibabel.load(tmp_path / "a.nii.gz").affine
    np.testing.assert_allclose(affine, expected, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd"])
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64, np.float32, np.float64])
def test_values_and_grid_are_simpleitks(tmp_path, suffix, kind):
    image = sitk.GetImageFromArray(scan().astype(kind))
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    image.SetDirection((turned * np.sign(np.linalg.det(turned))).ravel().tolist())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10, 20, 300))
    sitk.WriteImage(image, tmp_path / f"a{suffix}", useCompression=suffix == ".mha")
    voxels, affine = read_volume_file(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(voxels, scan())
    np.testing.assert_allclose(affine[:3, :3], np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(affine[:3, 3], image.GetOrigin(), atol=1e-4)


def test_scaled_values_of_few_bits(tmp_path):
    """NIfTI's own scaling makes Hounsfield units of bytes."""
    stored = np.rint((scan() + 1024) / 8).clip(0, 255).astype(np.uint8)
    image = nibabel.Nifti1Image(stored.T, AFFINE)
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2f", content, 112, 8, -1024)
    (tmp_path / "a.nii").write_bytes(content)
    voxels, _ = read_volume_file(tmp_path / "a.nii")
    np.testing.assert_array_equal(voxels, stored.astype(int) * 8 - 1024)


def test_big_endian(tmp_path):
    image = nibabel.Nifti1Image(scan().T, AFFINE, nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    np.testing.assert_array_equal(read_volume_file(tmp_path / "a.nii")[0], scan())
    path = metaimage_with(tmp_path / "b.mha", BinaryDataByteOrderMSB="True")
    header, mark, voxels = path.read_bytes().partition(b"LOCAL\n")
    path.write_bytes(header + mark + np.frombuffer(voxels, "<i2").astype(">i2").tobytes())
    np.testing.assert_array_equal(read_volume_file(path)[0], scan())


# What is no CT


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("offset", [-1024, -1000, -8192])
def test_an_offset_makes_the_values_right(tmp_path, suffix, offset):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray((scan() - offset).astype(np.int16)), path)
    with pytest.raises(
        Unusable, match=rf"values are no Hounsfield units: .*; set hounsfield_offset: {offset}, or save"
    ):
        read_volume_file(path)
    np.testing.assert_array_equal(read_volume_file(path, hounsfield_offset=offset)[0], scan())
    # Where there is no such key, none is named.
    with pytest.raises(Unusable, match="as air and tissue show; save the volume in Hounsfield units"):
        read_volume_file(path, hounsfield_offset=None)


NO_CT = {
    "labels": (lambda values: (values > 0).astype(np.uint8), "few different values, as of labels: found 2"),
    "more labels": (lambda values: np.arange(values.size).reshape(SHAPE) % 14, "as of labels: found 14"),
    "8 bits": (lambda values: np.interp(values, (-1000, 400), (0, 255)).astype(np.uint8), "no Hounsfield .*0 to 255"),
    "signed 8 bits": (
        lambda values: (values / 8 + 20).clip(-128).astype(np.int8),
        "no Hounsfield .*values of more than 8 bits",
    ),
    "floats to 255": (lambda values: np.interp(values, (-1000, 400), (0, 255)), "no Hounsfield units: found 0 to 255"),
    "floats to 1": (
        lambda values: np.interp(values, (-1000, 400), (0, 1)),
        "no Hounsfield units: found 0 to 1, .*not sca",
    ),
}


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
@pytest.mark.parametrize("case", NO_CT)
def test_what_is_no_ct_is_refused_by_name(tmp_path, case, suffix):
    change, message = NO_CT[case]
    sitk.WriteImage(sitk.GetImageFromArray(change(scan())), tmp_path / f"a{suffix}")
    with pytest.raises(Unusable, match=message):
        read_volume_file(tmp_path / f"a{suffix}")


def test_magnetic_resonance_has_no_unit(tmp_path):
    signal = (scan() + 1024).astype(np.uint16)
    path = write_nifti(tmp_path / "a.nii", signal)
    np.testing.assert_array_equal(read_volume_file(path, "MR")[0], signal)
    with pytest.raises(Unusable, match="as of labels"):
        read_volume_file(write_nifti(tmp_path / "b.nii", (signal > 1000).astype(np.int16)), "MR")


HOLES = {  # and whether they lie outside of the body
    "corner": (np.s_[:2, :3, :3], True),
    "whole slices": (np.s_[-2:], True),
    "in air": (np.s_[5, 2, 2:4], True),
    "in the body": (np.s_[5, 8, 8], False),
    "at the skin": (np.s_[3:6, 5, 5:15], False),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hole", HOLES)
def test_what_is_not_a_number(tmp_path, hole, value, suffix):
    where, is_outside = HOLES[hole]
    holed = scan().astype(np.float32)
    holed[where] = value
    path = tmp_path / f"a{suffix}"
    if suffix == ".mha":
        sitk.WriteImage(sitk.GetImageFromArray(holed), path)
    else:
        write_nifti(path, holed)
    if is_outside:
        expected = scan()
        expected[where] = -1024
        np.testing.assert_array_equal(read_volume_file(path)[0], expected)
    else:
        count = scan()[where].size
        with pytest.raises(
            Unusable, match=f"values are not all numbers: found {count} voxels of NaN or infinity inside"
        ):
            read_volume_file(path)


# Damaged and hostile files


@pytest.mark.parametrize("name", [b"Caf\xe9.nii.gz", b"\xff\xfe.mha", b"M\xfcller.nii"])
def test_a_name_that_is_not_utf8(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(b"anything")
    with pytest.raises(Unusable) as refused:
        open_volume(os.fsdecode(path))
    assert refused.value.found == name.decode("utf-8", "backslashreplace")
    assert refused.value.found.isprintable()
    assert refused.value.found.encode()


HEADERS = {
    "200 dimensions": ("h", 40, 200),
    "no dimensions": ("h", 40, 0),
    "negative length": ("h", 42, -24),
    "no length": ("h", 44, 0),
    "huge lengths": ("3h", 42, 32767, 32767, 32767),
    "longer than the file": ("h", 46, 500),
    "vector": ("6h", 40, 5, 24, 20, 12, 1, 3),
    "unknown datatype": ("h", 70, 77),
    "colour": ("h", 70, 128),
    "voxels before the file": ("f", 108, -4),
    "voxels within the header": ("f", 108, 100),
    "voxels beyond the file": ("f", 108, 1e6),
    "voxels nowhere": ("f", 108, float("nan")),
    "intercept nowhere": ("2f", 112, 1, float("inf")),
    "flat grid": ("12f", 280, *[0] * 12),
    "grid of NaN": ("f", 280, float("nan")),
    "one direction": ("12f", 280, *[1, 1, 1, 0] * 3),
    "huge voxels": ("f", 280, 1e30),
    "origin nowhere": ("f", 292, 1e30),
    "no spacing": ("4f", 76, 1, 0, 0, 0),
    "no rotation": ("3f", 256, 1e30, 1, 1),
    "voxels elsewhere": ("4s", 344, b"ni1\0"),
    "no NIfTI": ("4s", 344, b"\0\0\0\0"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", HEADERS)
def test_a_damaged_header_of_nifti(tmp_path, case, packed):
    path = nifti_with(tmp_path / "a.nii", *HEADERS[case])
    if case in ("no spacing", "no rotation"):  # of a grid that rests on these
        content = bytearray(path.read_bytes())
        struct.pack_into("<2h", content, 252, 1, 0)
        path.write_bytes(content)
    if packed:
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    with pytest.raises(Unusable, match=r"unreadable file|not a volume|volume too large") as refused:
        read_volume_file(path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


LINES = {
    "no length": {"DimSize": "0 20 12"},
    "negative length": {"DimSize": "-24 20 12"},
    "two lengths": {"DimSize": "24 20"},
    "half a voxel": {"DimSize": "24.5 20 12"},
    "endless number": {"DimSize": "9" * 5000 + " 20 12"},
    "huge lengths": {"DimSize": "100000 100000 100000"},
    "longer than the file": {"DimSize": "24 20 500"},
    "two dimensions": {"NDims": "2"},
    "colour": {"ElementNumberOfChannels": "3"},
    "unknown type": {"ElementType": "MET_STRING"},
    "no spacing": {"ElementSpacing": "0 1 1"},
    "negative spacing": {"ElementSpacing": "-1 1 1"},
    "spacing of NaN": {"ElementSpacing": "nan 1 1"},
    "one direction": {"TransformMatrix": "1 0 0 1 0 0 0 0 1"},
    "text": {"BinaryData": "False"},
    "not compressed": {"CompressedData": "True"},
    "a mesh": {"ObjectType": "Mesh"},
    "voxels beyond the file": {"HeaderSize": "1e300"},
    "long line": {"Comment": "A" * 3_000_000},
}


@pytest.mark.parametrize("case", LINES)
def test_a_damaged_header_of_metaimage(tmp_path, case):
    path = metaimage_with(tmp_path / "a.mha", **LINES[case])
    if case == "long line":  # before the rest
        path.write_bytes(b"Comment = " + b"A" * 3_000_000 + b"\n" + path.read_bytes())
    with pytest.raises(Unusable, match=r"unreadable file|not a volume|volume too large") as refused:
        read_volume_file(path)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.raw", "outside the header's folder"),
        ("sub/../../secret.raw", "outside the header's folder"),
        ("/etc/passwd", "outside the header's folder"),
        ("LIST", "voxels in several files"),
        ("slice%03d.raw 1 12 1", "voxels in several files"),
        ("missing.raw", "no ElementDataFile of that name"),
        (".", "no ElementDataFile of that name"),
    ],
)
def test_voxels_come_from_beside_the_header_alone(tmp_path, name, message):
    (tmp_path / "secret.raw").write_bytes(scan().tobytes())
    (tmp_path / "data" / "sub").mkdir(parents=True)
    path = metaimage_with(tmp_path / "data" / "a.mhd", ElementDataFile=name)
    with pytest.raises(Unusable, match=message) as refused:
        read_volume_file(path)
    assert "passwd" not in str(refused.value)
    (tmp_path / "data" / "sub" / "ct.raw").write_bytes(scan().tobytes())
    path = metaimage_with(tmp_path / "data" / "a.mhd", ElementDataFile="sub/ct.raw")
    np.testing.assert_array_equal(read_volume_file(path)[0], scan())


@pytest.mark.parametrize("size", ["5", "99999999999", "-3"])
def test_a_length_of_packed_voxels_that_lies_is_not_needed(tmp_path, size):
    path = metaimage_with(tmp_path / "a.mha", compress=True, CompressedDataSize=size)
    np.testing.assert_array_equal(read_volume_file(path)[0], scan())


def test_what_inflates_to_more_than_the_header_promises_is_left(tmp_path):
    whole = write_nifti(tmp_path / "a.nii", scan()).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(whole + bytes(2**26)))
    np.testing.assert_array_equal(read_volume_file(tmp_path / "a.nii.gz")[0], scan())
    path = metaimage_with(tmp_path / "a.mha", CompressedData="True")
    header, mark, voxels = path.read_bytes().partition(b"LOCAL\n")
    path.write_bytes(header + mark + zlib.compress(voxels + bytes(2**26)))
    np.testing.assert_array_equal(read_volume_file(path)[0], scan())


@pytest.mark.parametrize("damage", [lambda data: data[:-500], lambda data: data[:-8] + b"\1\2\3\4" + data[-4:]])
def test_damaged_gzip(tmp_path, damage):
    path = write_nifti(tmp_path / "a.nii.gz", scan())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Unusable, match="unreadable file"):
        read_volume_file(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file(tmp_path, make):
    make(tmp_path / "a.nii")
    with pytest.raises(Unusable, match="unreadable file: found no file"):
        read_volume_file(tmp_path / "a.nii")
