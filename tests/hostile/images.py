"""Image files whose headers lie, that are bombs, damaged, or no files at all."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from tests.hostile.entries import (
    NO_FILES,
    SIZE,
    damaged,
    grey_image,
    read_image_folder,
    write_images,
    zeros_deflated,
)
from tests.hostile.harness import Case

GREY = 200  # of the hostile image
HUGE = 60000
FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "bmp": "BMP", "gif": "GIF", "webp": "WEBP"}
FORMATS |= {"jp2": "JPEG2000", "pgm": "PPM"}


def encode(image: Image.Image, suffix: str, **options) -> bytes:
    target = BytesIO()
    image.save(target, FORMATS[suffix], **options)
    return target.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, packed: bytes, depth: int = 8, colour: int = 0, between: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff(width: int, height: int, packed: bytes, compression: int = 8, bits: int = 8, **tags: int) -> bytes:
    """A grey TIFF of one strip. tags: other values of the entries below."""
    entries = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offset": 273}
    entries |= {"samples": 277, "rows": 278, "length": 279}
    values = {"width": width, "height": height, "bits": bits, "compression": compression, "photometric": 1}
    values |= {"offset": 8, "samples": 1, "rows": height, "length": len(packed)} | tags
    listed = b"".join(struct.pack("<HHII", entries[name], 4, 1, values[name]) for name in entries)
    after = 8 + len(packed)
    return b"II*\0" + struct.pack("<I", after) + packed + struct.pack("<H", len(entries)) + listed + bytes(4)


def bmp(width: int, height: int, offset: int = 54) -> bytes:
    """A header, and a row of pixels."""
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 154, 0, 0, offset) + information + bytes(100)


def with_size(content: bytes, suffix: str, width: int, height: int) -> bytes:
    """The same file whose header gives another size."""
    if suffix == "jpg":
        place = content.index(b"\xff\xc0") + 5
        return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]
    if suffix == "gif":
        return content[:6] + struct.pack("<HH", width, height) + content[10:]
    if suffix == "jp2":
        place = content.index(b"ihdr") + 4
        return content[:place] + struct.pack(">II", height, width) + content[place + 8 :]
    if suffix == "webp":
        place = content.index(b"VP8L") + 9
        return (
            content[:place]
            + struct.pack("<I", (width - 1) & 0x3FFF | ((height - 1) & 0x3FFF) << 14)
            + content[place + 4 :]
        )
    assert suffix == "pgm"
    return f"P5 {width} {height} 255\n".encode() + bytes(100)


def plain(suffix: str) -> bytes:
    options = {"webp": {"lossless": True}, "jp2": {"irreversible": False}}
    return encode(grey_image(GREY), suffix, **options.get(suffix, {}))


def bombs() -> Iterator[tuple[str, bytes]]:
    """Files that would take gigabytes: by what they hold, or by what they say."""
    rows = zeros_deflated(HUGE * (HUGE + 1) // 2**20)
    yield "bomb.png", png(HUGE, HUGE, rows)
    yield "huge_and_empty.png", png(HUGE, HUGE, zlib.compress(b""))
    yield "largest.png", png(2**31 - 1, 2**31 - 1, zlib.compress(b""))
    yield "large_16bit.png", png(20000, 20000, zlib.compress(b""), depth=16, colour=6)
    text = b"Comment\0\0" + zeros_deflated(1024)
    yield (
        "text_bomb.png",
        png(SIZE, SIZE, zlib.compress((b"\0" + bytes([GREY]) * SIZE) * SIZE), between=chunk(b"zTXt", text)),
    )
    profile = b"icc\0\0" + zeros_deflated(1024)
    yield (
        "profile_bomb.png",
        png(SIZE, SIZE, zlib.compress((b"\0" + bytes([GREY]) * SIZE) * SIZE), between=chunk(b"iCCP", profile)),
    )
    yield "idat_bomb.png", png(SIZE, SIZE, zeros_deflated(3000))
    yield "bomb.tif", tiff(HUGE, HUGE, rows)
    yield "huge_and_empty.tif", tiff(HUGE, HUGE, zlib.compress(b""))
    yield "strip_bomb.tif", tiff(SIZE, SIZE, zeros_deflated(3000))
    yield "huge.bmp", bmp(HUGE, HUGE)
    yield "negative.bmp", bmp(-SIZE, -(2**31))
    for suffix in ("jpg", "gif", "jp2", "pgm"):
        yield f"huge.{suffix}", with_size(plain(suffix), suffix, HUGE, HUGE)
    yield "huge.webp", with_size(plain("webp"), "webp", 16383, 16383)


def liars() -> Iterator[tuple[str, bytes]]:
    """Small files of which the header says what is not so, or what is no image of ours."""
    whole = zlib.compress((b"\0" + bytes([GREY]) * SIZE) * SIZE)
    yield "no_rows.png", png(SIZE, 0, whole)
    yield "depth_3.png", png(SIZE, SIZE, whole, depth=3)
    yield "palette_without_colours.png", png(SIZE, SIZE, whole, colour=3)
    yield "more_rows.png", png(SIZE, 2 * SIZE, whole)
    yield "no_data.png", png(SIZE, SIZE, b"")
    yield "wrong_filter.png", png(SIZE, SIZE, zlib.compress((b"\x09" + bytes(SIZE)) * SIZE))
    yield "long_chunk.png", plain("png")[:8] + struct.pack(">I", 2**31 - 1) + plain("png")[12:]
    yield "no_rows.tif", tiff(SIZE, 0, whole)
    yield "strip_beyond_the_end.tif", tiff(SIZE, SIZE, bytes(64), 1, offset=2**31)
    yield "long_strip.tif", tiff(SIZE, SIZE, bytes(64), 1, length=2**32 - 1)
    yield "many_samples.tif", tiff(SIZE, SIZE, bytes(64), 1, samples=65535)
    yield "strange_bits.tif", tiff(SIZE, SIZE, bytes(64), 1, bits=7)
    yield "unknown_compression.tif", tiff(SIZE, SIZE, bytes(64), 9999)
    looped = tiff(SIZE, SIZE, bytes([GREY]) * 64, 1)
    yield "endless_pages.tif", looped[:-4] + looped[4:8]
    yield "bits_32.tif", encode(Image.fromarray(np.full((SIZE, SIZE), 0.5, np.float32)), "tif")
    two = [grey_image(GREY), grey_image(GREY)]
    yield "two_pages.tif", encode(two[0], "tif", save_all=True, append_images=two[1:])
    yield "animated.png", encode(two[0], "png", save_all=True, append_images=[grey_image(0)])
    yield "offset_beyond.bmp", bmp(SIZE, SIZE, offset=2**31 - 1)
    yield "no_width.bmp", bmp(0, SIZE)
    yield "progressive_cut.jpg", encode(grey_image(GREY), "jpg", progressive=True)[:-40]
    yield "many_scans.jpg", plain("jpg")[:-2] + plain("jpg")[plain("jpg").index(b"\xff\xda") :] * 500
    yield "cmyk.jpg", encode(Image.new("CMYK", (SIZE, SIZE)), "jpg")
    information = PngImagePlugin.PngInfo()
    information.add_text("name", "x\n" * 1000)
    yield "much_text.png", encode(grey_image(GREY), "png", pnginfo=information)
    yield "script.png", b"#!/bin/sh\ntouch climbed\n"
    yield "vector.png", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield "postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n"
    yield "tiny_1x1.png", encode(Image.new("L", (1, 1), GREY), "png")
    yield "long_line_20000x1.png", encode(Image.new("L", (20000, 1), GREY), "png")


EXPECT = {"much_text.png": "read", "tiny_1x1.png": "read", "two_pages.tif": "line", "bits_32.tif": "line"}


def build(write: partial, name: str, folder: Path) -> None:
    write_images(folder)
    write(folder / "sick" / name)


def put(content: bytes | partial, path: Path) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content())


def image_case(name: str, content: bytes | partial, expect: str = "either", file: str | None = None, grey=None) -> Case:
    file = file or name.replace("/", "_")
    read = partial(read_image_folder, grey=grey)
    return Case(f"images/{name}", partial(build, partial(put, content), file), read, expect)


def bomb(name: str) -> bytes:
    return dict(bombs())[name]


BOMBS = """
    bomb.png huge_and_empty.png largest.png large_16bit.png text_bomb.png profile_bomb.png idat_bomb.png bomb.tif
    huge_and_empty.tif strip_bomb.tif huge.bmp negative.bmp huge.jpg huge.gif huge.jp2 huge.pgm huge.webp
""".split()


def unreadable(path: Path) -> None:
    path.write_bytes(plain("png"))
    path.chmod(0)


def cases() -> Iterator[Case]:
    for name in BOMBS:
        may = "either" if name in ("text_bomb.png", "profile_bomb.png", "idat_bomb.png", "strip_bomb.tif") else "line"
        yield image_case(f"bombs/{name}", partial(bomb, name), may)
    for name, content in liars():
        yield image_case(f"liars/{name}", content, EXPECT.get(name, "either"))
    for suffix in FORMATS:
        whole = plain(suffix)
        yield image_case(f"whole/{suffix}", whole, file=f"hostile.{suffix}", grey=GREY)
        yield image_case(f"whole/{suffix}_named_png", whole, file="hostile.png", grey=GREY)
    for suffix in ("png", "jpg", "tif", "bmp"):
        for name, content in damaged(plain(suffix)):
            # A flipped bit of plain pixels is another grey, which no reader can know.
            yield image_case(f"damaged/{suffix}_{name}", content, file=f"hostile.{suffix}")
    for make in NO_FILES[1:]:  # an empty folder is no input
        yield Case(f"images/no_file/{make.__name__}", partial(build, make, "hostile.png"), read_image_folder)
    yield Case("images/no_file/unreadable", partial(build, unreadable, "hostile.png"), read_image_folder, "line", True)


CASES = list(cases())
