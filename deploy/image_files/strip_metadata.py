"""Leave an image file's metadata out, so that no decoder meets it: only pixels decide.

A photo with a broken colour profile, comment or EXIF block has sound pixels, and what decoders
refuse differs by their version. Of the metadata only the orientation is read, and here.
"""

import io
import re
from collections.abc import Callable, Iterator
from typing import IO

from deploy.image_files.formats import unsupported
from deploy.image_files.joined_parts import Block, Splice, beginning, limited
from deploy.image_files.orientation import exif_orientation, xmp_orientation
from deploy.image_files.strip_png import bare_png
from deploy.image_files.strip_tiff import bare_tiff


def bare(file: IO[bytes], name: str) -> tuple[IO[bytes], int]:
    """Return an image file of the format `name` without metadata, and its orientation, 1 to 8.

    Raises BadData where it is damaged, or of a kind that is not read.
    """
    strip = _STRIP.get(name)
    return strip(file) if strip else (file, 1)


# JPEG: segments of a marker, a size and data; after the first scan begins there is no metadata.

_RARE_JPEGS = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_COMMENT = b"\xff\xfe"
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)


def _bare_jpeg(file: IO[bytes]) -> tuple[IO[bytes], int]:
    splice, by_exif, by_xmp, end = Splice(file), None, None, 2
    splice.keep(0, end)
    for marker, start, size in limited(_segments(file)):
        end, kind = start + size, marker[1]
        data = beginning(file, start + 4, size - 4)
        if kind in _RARE_JPEGS:
            raise unsupported(_RARE_JPEGS[kind])
        if kind in _FRAMES and data[:1] not in (b"", b"\x08"):
            raise unsupported(f"a JPEG of {data[0]} bits")
        if kind == 0xE1 and data.startswith(b"Exif\0\0"):
            by_exif = by_exif or exif_orientation(data)
        elif kind == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            by_xmp = by_xmp or xmp_orientation(data)
        is_metadata = 0xE0 <= kind <= 0xEF or kind == 0xFE
        # Two blocks of metadata say how colours are coded.
        is_jfif = kind == 0xE0 and data.startswith(b"JFIF\0") and len(data) >= 14
        is_adobe = kind == 0xEE and data.startswith(b"Adobe") and len(data) >= 12
        if not is_metadata or is_jfif or is_adobe:
            splice.keep(start, end)
    splice.keep(end, file.seek(0, io.SEEK_END))
    return splice.open(), by_exif or by_xmp or 1


def _segments(file: IO[bytes]) -> Iterator[Block]:
    """Yield the segments before the first scan; bytes between them count as comments."""
    start = 2
    while True:
        file.seek(start)
        head = file.read(4)
        if head[:2] in (b"", b"\xff\xd9", b"\xff\xda"):
            return
        marker, size = head[:2], 2 + int.from_bytes(head[2:], "big")
        if head[0] != 0xFF:
            between = head + file.read(1 << 16)
            marker, size = _COMMENT, max(between.find(b"\xff"), 0) or len(between)
        elif head[1:2] in (b"", b"\xff"):  # any number of bytes 0xFF may stand before a marker
            marker, size = _COMMENT, 1
        elif head[1] in (0x00, 0x01, *range(0xD0, 0xD9)) or size < 4:
            marker, size = _COMMENT, 2
        yield marker, start, size
        start += size


# BMP: a header that says how pixels are coded


def _usual_bmp(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """Refuse what Pillow 9.4 reads with other pixels than 13 does, or not at all."""
    file.seek(14)
    header = file.read(20)
    if int.from_bytes(header[:4], "little") >= 40:
        compression = int.from_bytes(header[16:], "little")
        if compression not in (0, 3):  # plain, or plain with masks
            raise unsupported(f"a BMP of compression {compression}")
    return file, 1


# WebP: a header of 12 bytes, then chunks of a name, a size and data


def _bare_webp(file: IO[bytes]) -> tuple[IO[bytes], int]:
    splice, by_exif, by_xmp, end, dropped = Splice(file), None, None, 12, 0
    file.seek(4)
    whole = int.from_bytes(file.read(4), "little")
    for name, start, size in limited(_webp_chunks(file, min(8 + whole, file.seek(0, 2)))):
        end = start + size
        if name == b"EXIF":
            by_exif = by_exif or exif_orientation(beginning(file, start + 8, size - 8))
        elif name == b"XMP ":
            by_xmp = by_xmp or xmp_orientation(beginning(file, start + 8, size - 8))
        if name in (b"EXIF", b"XMP ", b"ICCP"):
            dropped += size
        elif name == b"VP8X":  # its flags say which metadata follows
            splice.add(beginning(file, start, 8))
            flags = beginning(file, start + 8, 1)
            splice.add(bytes([flags[0] & ~0x2C]) if flags else b"")
            splice.keep(start + 9, end)
        else:
            splice.keep(start, end)
    splice.keep(end, file.seek(0, io.SEEK_END))
    splice.parts.insert(0, b"RIFF" + max(4, whole - dropped).to_bytes(4, "little") + b"WEBP")
    return splice.open(), by_exif or by_xmp or 1


def _webp_chunks(file: IO[bytes], end: int) -> Iterator[Block]:
    start = 12
    while start + 8 <= end:
        file.seek(start)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        size += 8 + size % 2
        yield head[:4], start, size
        start += size


# AVIF and HEIC: boxes of a size and a name; "meta" lists the file's items. A decoder turns the
# pixels itself, by other items than these.

_METADATA_ITEM = re.compile(
    rb"(infe(?:\x02.{3}.{2}|\x03.{3}.{4}).{2})(?:Exif|mime|uri )", re.DOTALL
)


def _bare_boxes(file: IO[bytes]) -> tuple[IO[bytes], int]:
    splice, end = Splice(file), file.seek(0, io.SEEK_END)
    for name, start, size in limited(_boxes(file, end)):
        items = beginning(file, start, size) if name == b"meta" else b""
        if len(items) == size:
            splice.keep(0, start)
            splice.add(_METADATA_ITEM.sub(rb"\1free", items))
            splice.keep(start + size, end)
            return splice.open(), 1
    return file, 1


def _boxes(file: IO[bytes], end: int) -> Iterator[Block]:
    start = 0
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        elif not size:  # to the end
            size = end - start
        if size < 8:
            return
        yield head[4:8], start, size
        start += size


_STRIP: dict[str, Callable[[IO[bytes]], tuple[IO[bytes], int]]] = {
    "JPEG": _bare_jpeg,
    "PNG": bare_png,
    "WEBP": _bare_webp,
    "BMP": _usual_bmp,
    "TIFF": bare_tiff,
    "AVIF": _bare_boxes,
    "HEIC": _bare_boxes,
}
