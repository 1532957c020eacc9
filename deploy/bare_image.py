"""Leave an image file's metadata out, so that no decoder meets it: only pixels decide.

A photo with a broken colour profile, comment or EXIF block has sound pixels, and what decoders
refuse differs by their version. Of the metadata only the orientation is read, and here.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from deploy.bare_tiff import bare_tiff
from deploy.errors import BadData
from deploy.exif import exif_orientation, xmp_orientation
from deploy.image_formats import unsupported
from deploy.splice import Splice

_MAX_BLOCKS = 200_000
"""Files of more chunks or segments are refused: each takes time, however short it is."""
_MAX_METADATA = 1 << 20
"""Bytes of a block of metadata, at most, that are searched for the orientation."""

Block = tuple[bytes, int, int]
"""A part of a file: its name, where it starts, its size with its own header."""


def bare(file: IO[bytes], name: str) -> tuple[IO[bytes], int]:
    """Return an image file of the format `name` without metadata, and its orientation, 1 to 8.

    Raises BadData where it is damaged, or of a kind that is not read.
    """
    strip = _STRIP.get(name)
    return strip(file) if strip else (file, 1)


def _limited(blocks: Iterator[Block]) -> Iterator[Block]:
    for i, block in enumerate(blocks):
        if i == _MAX_BLOCKS:
            raise BadData(f"the file is damaged: it has more than {_MAX_BLOCKS:,} blocks")
        yield block


def _metadata(file: IO[bytes], start: int, size: int) -> bytes:
    """Return the beginning of `size` bytes of metadata, or what the file has of them."""
    file.seek(start)
    return file.read(max(0, min(size, _MAX_METADATA)))


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
    for marker, start, size in _limited(_segments(file)):
        end, kind = start + size, marker[1]
        data = _metadata(file, start + 4, size - 4)
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


# PNG: chunks of a size, a name, data and a checksum


def _bare_png(file: IO[bytes]) -> tuple[IO[bytes], int]:
    splice, by_exif, by_xmp = Splice(file), None, None
    splice.keep(0, 8)
    before = b""
    pixels_over = False
    for name, start, size in _limited(_chunks(file)):
        pixels_over |= before == b"IDAT" != name
        before = name
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT") and not pixels_over:
            _check_sum(file, name, start, size)
            splice.keep(start, start + size)
        elif name == b"CgBI":
            raise unsupported("a PNG for iOS apps")
        elif name == b"eXIf":
            by_exif = by_exif or exif_orientation(_metadata(file, start + 8, size - 12))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _text(name, _metadata(file, start + 8, size - 12))
            if keyword == b"Raw profile type exif":  # ImageMagick writes EXIF in hexadecimal
                digits = re.sub(rb"[^0-9A-Fa-f]", b"", b"".join(text.split(b"\n")[3:]))
                block = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
                by_exif = by_exif or exif_orientation(block)
            elif keyword == b"XML:com.adobe.xmp":
                by_xmp = by_xmp or xmp_orientation(text)
    splice.add(b"\0\0\0\0IEND\xae\x42\x60\x82")
    return splice.open(), by_exif or by_xmp or 1


def _chunks(file: IO[bytes]) -> Iterator[Block]:
    start = 8
    while True:
        file.seek(start)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        size = 12 + int.from_bytes(head[:4], "big")
        yield head[4:], start, size
        start += size


def _check_sum(file: IO[bytes], name: bytes, start: int, size: int) -> None:
    """Raise BadData where a chunk is cut off or its checksum, which is of name and data, wrong."""
    file.seek(start + 4)
    left, checksum = size - 8, 0
    while left:
        data = file.read(min(left, 1 << 20))
        if not data:
            raise BadData("the file is damaged: it is truncated")
        checksum, left = zlib.crc32(data, checksum), left - len(data)
    if file.read(4) != checksum.to_bytes(4, "big"):
        raise BadData(f"the file is damaged: the checksum of {name.decode()} is wrong")


def _text(name: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return keyword and text of a chunk, what can be read of them."""
    keyword, _, text = data.partition(b"\0")
    is_packed = name == b"zTXt"
    if name == b"iTXt":
        is_packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]  # after a language and a translated keyword
    elif name == b"zTXt":
        text = text[1:]
    if is_packed:
        try:
            text = zlib.decompressobj().decompress(text, _MAX_METADATA)
        except zlib.error:
            text = b""
    return keyword, text


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
    for name, start, size in _limited(_webp_chunks(file, min(8 + whole, file.seek(0, 2)))):
        end = start + size
        if name == b"EXIF":
            by_exif = by_exif or exif_orientation(_metadata(file, start + 8, size - 8))
        elif name == b"XMP ":
            by_xmp = by_xmp or xmp_orientation(_metadata(file, start + 8, size - 8))
        if name in (b"EXIF", b"XMP ", b"ICCP"):
            dropped += size
        elif name == b"VP8X":  # its flags say which metadata follows
            splice.add(_metadata(file, start, 8))
            flags = _metadata(file, start + 8, 1)
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
    for name, start, size in _limited(_boxes(file, end)):
        items = _metadata(file, start, size) if name == b"meta" else b""
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
    "PNG": _bare_png,
    "WEBP": _bare_webp,
    "BMP": _usual_bmp,
    "TIFF": bare_tiff,
    "AVIF": _bare_boxes,
    "HEIC": _bare_boxes,
}
