"""DICOM series whose headers lack, twist or overstate what matters; truncated, inflated, nested, encapsulated."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom import DataElement, Dataset, Sequence
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.hostile.entries import (
    HEALTHY_SCAN,
    HOSTILE_SCAN,
    NO_FILES,
    damaged,
    read_scan_folder,
    write_scan,
    zeros_deflated,
)
from tests.hostile.harness import Case
from tests.unit.dicom_files import compress, write_enhanced

MISSING, EMPTY = "missing", "empty"
# What is wrong with a tag, by its name; a VR in front stands for another than the tag's own.
WRONG: dict[str, list[object]] = {
    "SOPClassUID": [MISSING, EMPTY, "1.2.3", "banana", "1." * 40],
    "SOPInstanceUID": [MISSING, EMPTY, "same for all"],
    "SeriesInstanceUID": [MISSING, EMPTY, "x" * 300, "LT:a\r\nb"],
    "StudyInstanceUID": [MISSING, EMPTY],
    "Modality": [MISSING, EMPTY, "XA", "MR", "US:7", "CT\\MR"],
    "ImageType": [MISSING, EMPTY, "LOCALIZER", "\\\\\\"],
    "PatientID": [MISSING, EMPTY, "a\x1b[2Jb", "=cmd|' /C calc'!A0", "x" * 5000, "\u202egnp.exe"],
    "PatientName": [MISSING, "^^^^", "=1+1"],
    "Rows": [MISSING, EMPTY, 0, 1, 15, 17, 65535, "LO:many", "DS:16.5", "US:16\\16"],
    "Columns": [MISSING, 0, 65535, "LO:many"],
    "BitsAllocated": [MISSING, 0, 1, 8, 12, 32, 64, 65535, "LO:x"],
    "BitsStored": [MISSING, 0, 17, 65535, "LO:x"],
    "HighBit": [MISSING, 3, 65535],
    "PixelRepresentation": [MISSING, 2, 65535, "LO:x"],
    "SamplesPerPixel": [MISSING, 0, 3, 65535],
    "PhotometricInterpretation": [MISSING, EMPTY, "RGB", "PALETTE COLOR", "banana", "US:1"],
    "NumberOfFrames": [EMPTY, 0, -1, 2, 2**31 - 1, "LO:many", "IS:1\\2", "DS:1e400"],
    "PixelSpacing": [
        MISSING,
        EMPTY,
        "0\\0",
        "-1\\-1",
        "2.5",
        "2.5\\2.5\\2.5",
        "nan\\nan",
        "1e300\\1e300",
        "1e-300\\1e-300",
    ],
    "ImagePositionPatient": [MISSING, EMPTY, "0\\0", "a\\b\\c", "inf\\0\\0", "1e300\\0\\0", "0\\0\\0", "SQ:"],
    "ImageOrientationPatient": [
        MISSING,
        "0\\0\\0\\0\\0\\0",
        "1\\0\\0\\1\\0\\0",
        "2\\0\\0\\0\\2\\0",
        "x",
        "1e300\\0\\0\\0\\1\\0",
    ],
    "RescaleSlope": [MISSING, EMPTY, 0, "nan", "1e300", "-1", "1,5", "1\\2"],
    "RescaleIntercept": [MISSING, "inf", "1e300", "abc", "-1024\\-1024"],
    "RescaleType": [EMPTY, "OD", "US:5", "HU\\HU"],
    "PixelPaddingValue": [0, 65535, "LO:x", "OB:xyzxyz"],
    "SliceThickness": [MISSING, EMPTY, "0", "nan", "x", "1\\2"],
    "Manufacturer": [MISSING, EMPTY, "a\nb", "x" * 10000, "A\\B"],
    "ConvolutionKernel": [MISSING, "A\\B\\C", "US:3", "\x00\x01"],
    "StudyDate": ["banana", "99999999", "LO:" + "x" * 1000],
    "SpecificCharacterSet": ["ISO_IR 9999", "\\ISO 2022 IR 87", "UTF-banana"],
    "TransferSyntaxUID": [
        MISSING,
        EMPTY,
        "1.2.3",
        "banana",
        RLELossless,
        JPEG2000Lossless,
        MPEG2MPML,
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
    ],
    "PixelData": [MISSING, EMPTY, b"\0" * 7, b"\0" * 100000],
}
# A healthy scan comes out all the same: these say nothing that the voxels need.
HARMLESS = {
    *(
        f"{tag}={MISSING}"
        for tag in ("Manufacturer", "ConvolutionKernel", "SliceThickness", "PatientName", "ImageType")
    ),
    *(f"{tag}={MISSING}" for tag in ("PhotometricInterpretation", "SamplesPerPixel", "HighBit", "StudyInstanceUID")),
    "PatientName=^^^^",
    "PatientName==1+1",
    "StudyDate=banana",
    "Manufacturer=A\\B",
}
# Voxels that differ from the series' are right there, as the header asks for it.
OTHER_VOXELS = ("Rescale", "PixelPadding", "PixelSpacing", "ImageOrientation", "Bits", "HighBit", "PixelRepresentation",
                "ImagePosition", "TransferSyntax", "Rows", "Columns", "PixelData")  # fmt: skip


def set_wrong(wrong: dict[str, object], dataset: Dataset, index: int) -> None:
    """Change tags of a dataset, regardless of the standard."""
    for keyword, value in wrong.items():
        if value == MISSING:
            if keyword in dataset:
                del dataset[keyword]
            continue
        tag = pydicom.tag.Tag(keyword)
        vr = pydicom.datadict.dictionary_VR(tag)
        vr = {"US or SS": "US", "OB or OW": "OW"}.get(vr, vr)
        if isinstance(value, str) and value[2:3] == ":" and value[:2].isupper():
            vr, value = value[:2], value[3:]
        if value == EMPTY:
            value = b"" if vr == "OW" else None
        elif vr in ("US",) and isinstance(value, str):
            value = [int(part) for part in value.split("\\")]
        elif vr == "OB" and isinstance(value, str):
            value = value.encode()
        elif vr == "SQ":
            value = Sequence([Dataset()])
        elif vr in ("DS", "IS") and value is not None:
            # Decimals that are none: the bytes go into the file as they are.
            dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, 0, _even(str(value)), 0, False, True)
            continue
        dataset[tag] = DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE)


def _even(text: str) -> bytes:
    encoded = text.encode()
    return encoded + b" " * (len(encoded) % 2)


def write_healthy(folder: Path) -> None:
    write_scan(folder / "good", HEALTHY_SCAN, 1)


def write_wrong(wrong: dict[str, object], folder: Path) -> None:
    """A healthy series, and one all of whose files have the same fault."""
    write_healthy(folder)
    for index, file in enumerate(write_scan(folder / "bad", HOSTILE_SCAN, 2)):
        if "TransferSyntaxUID" in wrong:
            _claim_syntax(file, wrong["TransferSyntaxUID"])
            continue
        with pydicom.config.disable_value_validation():
            dataset = pydicom.dcmread(file)
            set_wrong(wrong, dataset, index)
            dataset.save_as(file)


def _claim_syntax(file: Path, syntax: object) -> None:
    """Let a file say that its transfer syntax is another; nothing else changes."""
    content = file.read_bytes()
    old = b"\x02\x00\x10\x00UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
    assert old in content
    name = b"" if syntax in (MISSING, EMPTY) else _even(str(syntax)).replace(b" ", b"\0")
    new = b"" if syntax == MISSING else b"\x02\x00\x10\x00UI" + struct.pack("<H", len(name)) + name
    file.write_bytes(content.replace(old, new))


def write_damaged(change: Callable[[bytes], bytes], folder: Path) -> None:
    """A healthy series, and one whose third file is damaged."""
    write_healthy(folder)
    file = write_scan(folder / "bad", HOSTILE_SCAN, 2)[2]
    file.write_bytes(change(file.read_bytes()))


def write_each_damaged(change: Callable[[bytes], bytes], folder: Path) -> None:
    write_healthy(folder)
    for file in write_scan(folder / "bad", HOSTILE_SCAN, 2):
        file.write_bytes(change(file.read_bytes()))


def elements_of(content: bytes) -> list[tuple[str, int]]:
    """Name and first byte of each element of a file."""
    places = []
    dataset = pydicom.dcmread(BytesIO(content))
    for element in (*dataset.file_meta, *dataset):
        tag = struct.pack("<HH", element.tag.group, element.tag.element)
        places.append((element.keyword, content.index(tag + element.VR.encode())))
    return places


def cut(keyword: str, beyond: int, content: bytes) -> bytes:
    """The file up to an element, or to some bytes within it."""
    return content[: dict(elements_of(content))[keyword] + beyond]


def lengthen(keyword: str, length: int, content: bytes) -> bytes:
    """The file with another length of an element in it."""
    place = dict(elements_of(content))[keyword] + 4
    if content[place : place + 2] in (b"OW", b"OB", b"SQ", b"UN"):
        return content[: place + 4] + struct.pack("<I", length) + content[place + 8 :]
    return content[: place + 2] + struct.pack("<H", min(length, 65535)) + content[place + 4 :]


def insert(extra: bytes, content: bytes) -> bytes:
    """Bytes before the element Modality."""
    place = dict(elements_of(content))["Modality"]
    return content[:place] + extra + content[place:]


def nested(depth: int, delimited: bool, content: bytes) -> bytes:
    """Sequences within sequences."""
    head = (
        b"\x08\x00\x15\x11SQ\0\0" + struct.pack("<I", 0xFFFFFFFF) + b"\xfe\xff\x00\xe0" + struct.pack("<I", 0xFFFFFFFF)
    )
    tail = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    # Tags have to grow: this one lies between StudyDate and Modality, near enough.
    return insert(head * depth + (tail * depth if delimited else b""), content)


def replaced(by: bytes, content: bytes) -> bytes:
    return by


def deflate_bomb(megabytes: int, content: bytes) -> bytes:
    """The header, deflated, and a private element of zeros as long as may be."""
    meta_end = dict(elements_of(content))["ImageType"]
    old = b"\x02\x00\x10\x00UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
    new = b"\x02\x00\x10\x00UI" + struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99"
    meta = content[:meta_end].replace(old, new)
    group_length = struct.unpack("<I", meta[140:144])[0]
    meta = meta[:140] + struct.pack("<I", group_length + 2) + meta[144:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = content[meta_end : dict(elements_of(content))["PixelData"]]
    head = packer.compress(body + b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", megabytes * 2**20)) + packer.flush(
        zlib.Z_FULL_FLUSH
    )
    return meta + head + zeros_deflated(megabytes, -15)


def write_encapsulated(syntax: UID, damage: Callable[[bytes], bytes], folder: Path) -> None:
    """A compressed series, each of whose frames is damaged, in a whole file."""
    write_healthy(folder)
    for file in write_scan(folder / "bad", HOSTILE_SCAN - HOSTILE_SCAN.min(), 2):
        compress(file, syntax)
        dataset = pydicom.dcmread(file)
        [frame] = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
        changed = damage(frame)
        item = b"\xfe\xff\x00\xe0"
        dataset.PixelData = encapsulate([changed]) if changed else item + bytes(4) + item + bytes(4)
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(file)


def write_fragments(content: bytes, folder: Path) -> None:
    """Pixel data of the given bytes where fragments are expected."""
    write_healthy(folder)
    for file in write_scan(folder / "bad", HOSTILE_SCAN, 2):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = RLELossless
        dataset.PixelData = content
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.save_as(file)


def write_frames(frames_said: int, groups: int, folder: Path) -> None:
    """An enhanced file that says another number of frames than it has, with another number of groups."""
    write_healthy(folder)
    (folder / "bad").mkdir()
    file = folder / "bad/enhanced.dcm"
    write_enhanced(
        file, HOSTILE_SCAN, heights=[2.5 * index for index in range(len(HOSTILE_SCAN))], series_uid="1.2.840.99.2"
    )
    dataset = pydicom.dcmread(file)
    dataset.NumberOfFrames = frames_said
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[:groups]
    dataset.save_as(file)


def without_preamble(content: bytes) -> bytes:
    return content[132:]


def flipped(number: int, content: bytes) -> bytes:
    place = number * len(content) // 40
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def write_no_file(make: Callable[[Path], None], folder: Path) -> None:
    write_healthy(folder)
    write_scan(folder / "bad", HOSTILE_SCAN, 2)[3].unlink()
    make(folder / "bad/0003.dcm")


def unreadable(path: Path) -> None:
    path.write_bytes(b"x" * 200)
    path.chmod(0)


def case(name: str, build: Callable[[Path], None], expect: str = "either", exact: bool = True, **options) -> Case:
    return Case(f"dicom/{name}", build, partial(read_scan_folder, exact=exact), expect, most_lines=8, **options)


def cases() -> Iterator[Case]:
    for keyword, values in WRONG.items():
        for number, value in enumerate(values):
            named = value if isinstance(value, str) and value.isalnum() and len(value) < 20 else number
            expect = "read" if f"{keyword}={value}" in HARMLESS else "either"
            exact = not keyword.startswith(OTHER_VOXELS)
            yield case(f"tags/{keyword}_{named}", partial(write_wrong, {keyword: value}), expect, exact)
    for syntax in (JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, RLELossless):
        name = syntax.name.split(",")[0].split(" (")[0].replace(" ", "_")
        for damage, change in {
            "cut": lambda frame: frame[: len(frame) // 2],
            "empty": lambda frame: b"",
            "flipped": lambda frame: frame[:30] + bytes([frame[30] ^ 0xFF]) + frame[31:],
            "noise": lambda frame: bytes(index * 37 % 256 for index in range(len(frame) // 2 * 2)),
            "of_other_size": lambda frame: frame.replace(struct.pack(">HH", 16, 20), struct.pack(">HH", 65535, 65535)),
        }.items():
            # Compressed bits have no checksum: a flipped one may decode to other values, which nobody can know.
            yield case(f"encapsulated/{name}_{damage}", partial(write_encapsulated, syntax, change), exact=False)
    for name, content in {
        "no_frames": b"\xfe\xff\x00\xe0\0\0\0\0",
        "half_an_item": b"\xfe\xff\x00\xe0\x08\0\0",
        "long_item": b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + struct.pack("<I", 2**31) + b"abcd",
        "no_delimiter": b"\xfe\xff\x00\xe0\0\0\0\0" * 1000,
        "offsets_beyond": b"\xfe\xff\x00\xe0\x04\0\0\0\xff\xff\xff\x7f\xfe\xff\x00\xe0\x04\0\0\0abcd",
    }.items():
        yield case(f"encapsulated/{name}", partial(write_fragments, content), "line")
    for said, groups in ((3, 6), (7, 6), (2**31 - 1, 6), (6, 3), (6, 0), (0, 6), (-5, 6)):
        yield case(f"enhanced/{said}_frames_{groups}_groups", partial(write_frames, said, groups), exact=False)
    for keyword in ("FileMetaInformationVersion", "TransferSyntaxUID", *_HEADER):
        yield case(f"cut/before_{keyword}", partial(write_damaged, partial(cut, keyword, 0)), "line")
        yield case(f"cut/within_{keyword}", partial(write_damaged, partial(cut, keyword, 9)), "line")
    for keyword in ("ImageType", "Modality", "SeriesInstanceUID", "Rows", "PixelSpacing", "PixelData"):
        for length in (0, 1, 3, 0xFFF0, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF):
            change = partial(write_damaged, partial(lengthen, keyword, length))
            yield case(f"lengths/{keyword}_{length:x}", change, exact=keyword != "PixelData")
    for depth in (10, 500, 20000):
        for delimited in (True, False):
            name = f"nested/{depth}_{'closed' if delimited else 'open'}"
            yield case(name, partial(write_each_damaged, partial(nested, depth, delimited)), exact=False)
    yield case(
        "nested/item_of_4_gb",
        partial(
            write_each_damaged, partial(insert, b"\x08\x00\x15\x11SQ\0\0\xfe\xff\xff\xff\xfe\xff\0\xe0\xfe\xff\xff\xff")
        ),
    )
    yield case("bombs/deflated_3_gb", partial(write_each_damaged, partial(deflate_bomb, 3000)), "line")
    yield case("bombs/one_deflated_3_gb", partial(write_damaged, partial(deflate_bomb, 3000)), "line")
    yield case("whole/without_preamble", partial(write_each_damaged, without_preamble), "read")
    for number in range(1, 39, 3):
        yield case(f"damaged/flip_{number}", partial(write_damaged, partial(flipped, number)), exact=False)
    for name, content in damaged(b"\0" * 128 + b"DICM" + b"x" * 400):
        yield case(f"damaged/{name}", partial(write_damaged, partial(replaced, content)), "line")
    for make in NO_FILES:
        yield case(f"no_file/{make.__name__}", partial(write_no_file, make), "line")
    yield case("no_file/unreadable", partial(write_no_file, unreadable), "line", as_nobody=True)


_HEADER = """
    ImageType SOPClassUID SOPInstanceUID StudyDate Modality Manufacturer PatientName PatientID SliceThickness
    ConvolutionKernel StudyInstanceUID SeriesInstanceUID ImagePositionPatient ImageOrientationPatient SamplesPerPixel
    PhotometricInterpretation Rows Columns PixelSpacing BitsAllocated PixelRepresentation RescaleIntercept PixelData
""".split()
CASES = list(cases())
