"""Remove an image file's metadata, so that only its pixels reach a decoder.

A photo with a broken colour profile, comment or EXIF block has sound pixels, and decoders differ
by version in what they refuse. Of the metadata only the orientation is read, and read here.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from deploy.errors import BadData
from deploy.image_files.formats import CAMERA_RAW, unsupported
from deploy.image_files.orientation import (
    Directory,
    exif_orientation,
    first_directory,
    orientation,
    xmp_orientation,
)
from deploy.image_files.splice import Splice
from deploy.system.counts import with_noun

MAX_BLOCKS = 200_000
"""Files of more chunks or segments are refused: each takes time, however short it is."""
MAX_METADATA_BYTES = 1 << 20
"""Bytes of a block of metadata that are searched for the orientation."""

Block = tuple[bytes, int, int]
"""A chunk, segment or box of a file: its name, its start, its size with its own header."""


def strip_metadata(file: IO[bytes], name: str) -> tuple[IO[bytes], int]:
    """Return an image file of the format `name` without metadata, and its orientation, 1 to 8.

    Raises BadData for a damaged file and for a kind that is not read.
    """
    strip = _STRIP.get(name)
    return strip(file) if strip else (file, 1)


def _limited(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield the blocks; raise BadData if there are more than MAX_BLOCKS."""
    for i, block in enumerate(blocks):
        if i == MAX_BLOCKS:
            raise BadData(f"the file is damaged: it has more than {MAX_BLOCKS:,} blocks")
        yield block


def _read_start(file: IO[bytes], start: int, size: int) -> bytes:
    """Return at most MAX_METADATA_BYTES of the `size` bytes at `start`, fewer at the file's end."""
    file.seek(start)
    return file.read(max(0, min(size, MAX_METADATA_BYTES)))


# JPEG: segments of a marker, a size and data. No metadata follows the start of the first scan.

_RARE_JPEGS = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_COMMENT = b"\xff\xfe"
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)


def _strip_jpeg(file: IO[bytes]) -> tuple[IO[bytes], int]:
    splice, by_exif, by_xmp, end = Splice(file), None, None, 2
    splice.keep(0, end)
    for marker, start, size in _limited(_jpeg_segments(file)):
        end, kind = start + size, marker[1]
        data = _read_start(file, start + 4, size - 4)
        if kind in _RARE_JPEGS:
            raise unsupported(_RARE_JPEGS[kind])
        if kind in _FRAMES and data[:1] not in (b"", b"\x08"):
            raise unsupported(f"a JPEG of {with_noun(data[0], 'bit')}")
        if kind == 0xE1 and data.startswith(b"Exif\0\0"):
            by_exif = by_exif or exif_orientation(data)
        elif kind == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            by_xmp = by_xmp or xmp_orientation(data)
        is_metadata = 0xE0 <= kind <= 0xEF or kind == 0xFE
        # These two blocks of metadata describe the coding of colours.
        is_jfif = kind == 0xE0 and data.startswith(b"JFIF\0") and len(data) >= 14
        is_adobe = kind == 0xEE and data.startswith(b"Adobe") and len(data) >= 12
        if not is_metadata or is_jfif or is_adobe:
            splice.keep(start, end)
    splice.keep(end, file.seek(0, io.SEEK_END))
    return splice.open(), by_exif or by_xmp or 1


def _jpeg_segments(file: IO[bytes]) -> Iterator[Block]:
    """Yield the segments before the first scan; bytes between segments count as comments."""
    start = 2
    while True:
        file.seek(start)
        head = file.read(4)
        if head[:2] in (b"", b"\xff\xd9", b"\xff\xda"):
            return
        marker, size = head[:2], 2 + int.from_bytes(head[2:], "big")
        if head[0] != 0xFF:
            data = head + file.read(1 << 16)
            marker, size = _COMMENT, max(data.find(b"\xff"), 0) or len(data)
        elif head[1:2] in (b"", b"\xff"):  # any number of bytes 0xFF may precede a marker
            marker, size = _COMMENT, 1
        elif head[1] in (0x00, 0x01, *range(0xD0, 0xD9)) or size < 4:
            marker, size = _COMMENT, 2
        yield marker, start, size
        start += size


# PNG: chunks of a size, a name, data and a CRC.


def _strip_png(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """Keep the chunks that hold pixels; raise BadData for one that is damaged."""
    splice, by_exif, by_xmp = Splice(file), None, None
    splice.keep(0, 8)
    previous = b""
    after_pixels = False
    for name, start, size in _limited(_png_chunks(file)):
        after_pixels |= previous == b"IDAT" != name
        previous = name
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT") and not after_pixels:
            _check_crc(file, name, start, size)
            splice.keep(start, start + size)
        elif name == b"CgBI":
            raise unsupported("a PNG for iOS apps")
        elif name == b"eXIf":
            by_exif = by_exif or exif_orientation(_read_start(file, start + 8, size - 12))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _png_text(name, _read_start(file, start + 8, size - 12))
            if keyword == b"Raw profile type exif":  # ImageMagick writes EXIF in hexadecimal
                digits = re.sub(rb"[^0-9A-Fa-f]", b"", b"".join(text.split(b"\n")[3:]))
                block = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
                by_exif = by_exif or exif_orientation(block)
            elif keyword == b"XML:com.adobe.xmp":
                by_xmp = by_xmp or xmp_orientation(text)
    splice.add(b"\0\0\0\0IEND\xae\x42\x60\x82")
    return splice.open(), by_exif or by_xmp or 1


def _png_chunks(file: IO[bytes]) -> Iterator[Block]:
    start = 8
    while True:
        file.seek(start)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        size = 12 + int.from_bytes(head[:4], "big")
        yield head[4:], start, size
        start += size


def _check_crc(file: IO[bytes], name: bytes, start: int, size: int) -> None:
    """Raise BadData for a chunk that is cut off or has a wrong CRC, which covers name and data."""
    file.seek(start + 4)
    remaining, checksum = size - 8, 0
    while remaining:
        data = file.read(min(remaining, 1 << 20))
        if not data:
            raise BadData("the file is damaged: it is truncated")
        checksum, remaining = zlib.crc32(data, checksum), remaining - len(data)
    if file.read(4) != checksum.to_bytes(4, "big"):
        raise BadData(f"the file is damaged: the checksum of {name.decode()} is wrong")


def _png_text(name: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return keyword and text of a text chunk; the text is empty if it cannot be unpacked."""
    keyword, _, text = data.partition(b"\0")
    is_packed = name == b"zTXt"
    if name == b"iTXt":
        is_packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]  # after a language and a translated keyword
    elif name == b"zTXt":
        text = text[1:]
    if is_packed:
        try:
            text = zlib.decompressobj().decompress(text, MAX_METADATA_BYTES)
        except zlib.error:
            text = b""
    return keyword, text


# WebP: a header of 12 bytes, then chunks of a name, a size and data.


def _strip_webp(file: IO[bytes]) -> tuple[IO[bytes], int]:
    splice, by_exif, by_xmp, end, removed = Splice(file), None, None, 12, 0
    file.seek(4)
    riff_size = int.from_bytes(file.read(4), "little")
    for name, start, size in _limited(_webp_chunks(file, min(8 + riff_size, file.seek(0, 2)))):
        end = start + size
        if name == b"EXIF":
            by_exif = by_exif or exif_orientation(_read_start(file, start + 8, size - 8))
        elif name == b"XMP ":
            by_xmp = by_xmp or xmp_orientation(_read_start(file, start + 8, size - 8))
        if name in (b"EXIF", b"XMP ", b"ICCP"):
            removed += size
        elif name == b"VP8X":  # its flags name the metadata that follows
            splice.add(_read_start(file, start, 8))
            flags = _read_start(file, start + 8, 1)
            splice.add(bytes([flags[0] & ~0x2C]) if flags else b"")
            splice.keep(start + 9, end)
        else:
            splice.keep(start, end)
    splice.keep(end, file.seek(0, io.SEEK_END))
    splice.parts.insert(0, b"RIFF" + max(4, riff_size - removed).to_bytes(4, "little") + b"WEBP")
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


# AVIF and HEIC: boxes of a size and a name; "meta" lists the file's items. The decoder applies the
# orientation itself, from items that stay.

_METADATA_ITEM = re.compile(
    rb"(infe(?:\x02.{3}.{2}|\x03.{3}.{4}).{2})(?:Exif|mime|uri )", re.DOTALL
)


def _strip_boxes(file: IO[bytes]) -> tuple[IO[bytes], int]:
    splice, end = Splice(file), file.seek(0, io.SEEK_END)
    for name, start, size in _limited(_boxes(file, end)):
        items = _read_start(file, start, size) if name == b"meta" else b""
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


# BMP: a header that describes the coding of pixels.


def _check_bmp(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """Refuse what Pillow 9.4 reads with other pixels than Pillow 13, or cannot read."""
    file.seek(14)
    header = file.read(20)
    if int.from_bytes(header[:4], "little") >= 40:
        compression = int.from_bytes(header[16:], "little")
        if compression not in (0, 3):  # plain, or plain with masks
            raise unsupported(f"a BMP of compression {compression}")
    return file, 1


# TIFF: a directory of tags.

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_SUBFILE, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _INKS, _SAMPLE_FORMAT = 254, 284, 322, 323, 332, 339
_DNG_VERSION = 50706
_SENSOR_PHOTOMETRIC = (32803, 34892)
"""Photometric interpretations of raw sensor data."""
_PIXEL_TAGS = (
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, 273, _SAMPLES, 278, 279, _PLANAR),
    *(292, 293, 317, 320, _TILE_WIDTH, _TILE_HEIGHT, 324, 325, _INKS, 338, _SAMPLE_FORMAT, 347),
    *(529, 530, 531, 532),
)
"""Tags that locate the pixels and describe their coding."""
_JPEG, _YCBCR, _SEPARATE = 7, 6, 2
_COMPRESSIONS = {1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946}
"""None, CCITT, LZW, JPEG, deflate, PackBits."""
_COLOURS = {0, 1, 2, 3, 5, _YCBCR}
"""Grey with white as 0, grey, RGB, palette, CMYK, YCbCr."""
_MAX_TILE_PIXELS = 16_000_000
"""A tile is decoded whole, however small the picture is."""


def _strip_tiff(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """Keep the first page only."""
    directory = first_directory(file)
    if directory is None:
        raise BadData("the file is damaged: its header cannot be read")
    _check_tiff(file, directory)
    end = file.seek(0, io.SEEK_END)
    padding = end % 2
    splice = Splice(file)
    splice.keep(0, 4)
    splice.add(struct.pack(directory.order + "I", end + padding))
    splice.keep(8, end)
    splice.add(bytes(padding))
    tags = {*_PIXEL_TAGS} & {*directory.entries}
    if directory.numbers(file, _SAMPLES, 1) in ((), (1,)):
        tags.discard(_PLANAR)  # one channel is one plane either way, and Pillow reads only one way
    entries = [directory.entries[tag] for tag in sorted(tags)]
    length = struct.pack(directory.order + "H", len(entries))
    splice.add(length + b"".join(entries) + bytes(4))
    return splice.open(), orientation(file) or 1


def _check_tiff(file: IO[bytes], directory: Directory) -> None:
    """Raise BadData for a picture that Pillow cannot read or reads with wrong colours."""

    def first(tag: int, default: int) -> int:
        return (directory.numbers(file, tag, 1) or (default,))[0]

    if not first(_WIDTH, 0) or not first(_HEIGHT, 0):
        raise BadData("the file is damaged: it has no width or height")
    photometric, compression = first(_PHOTOMETRIC, 0), first(_COMPRESSION, 1)
    bits = directory.numbers(file, _BITS) or (1,)
    if (
        _DNG_VERSION in directory.entries
        or photometric in _SENSOR_PHOTOMETRIC
        or first(_SUBFILE, 0) & 1
    ):
        raise BadData(f"{CAMERA_RAW} (its first picture is no more than a thumbnail)")
    if compression not in _COMPRESSIONS:
        raise unsupported(f"a TIFF of compression {compression}")
    if photometric not in _COLOURS:
        raise unsupported(f"a TIFF of photometric interpretation {photometric}")
    if {*directory.numbers(file, _SAMPLE_FORMAT)} - {1}:
        raise unsupported("a TIFF of signed or floating-point values")
    min_bits = 1 if photometric in (0, 1, 3) else 8
    if {*bits} - {1, 2, 4, 8, 16} or min(bits) < min_bits or len({*bits}) > 1:
        raise unsupported(f"a TIFF of {' + '.join(map(str, bits))} bits")
    if bits[0] == 16 and photometric == 0:
        raise unsupported("a TIFF of 16 bits whose white is 0")
    if photometric == _YCBCR and compression != _JPEG:
        raise unsupported("a TIFF of YCbCr that is not JPEG inside")
    if first(_PLANAR, 1) == _SEPARATE and bits[0] == 16 and first(_SAMPLES, 1) > 1:
        raise unsupported("a TIFF of 16 bits with a plane for each channel")
    if first(_SAMPLES, 1) > 5:
        raise unsupported(f"a TIFF of {first(_SAMPLES, 1)} channels")
    if first(_TILE_WIDTH, 0) * first(_TILE_HEIGHT, 0) > _MAX_TILE_PIXELS:
        raise unsupported(f"a TIFF with tiles of more than {_MAX_TILE_PIXELS:,} pixels")


_STRIP: dict[str, Callable[[IO[bytes]], tuple[IO[bytes], int]]] = {
    "JPEG": _strip_jpeg,
    "PNG": _strip_png,
    "WEBP": _strip_webp,
    "BMP": _check_bmp,
    "TIFF": _strip_tiff,
    "AVIF": _strip_boxes,
    "HEIC": _strip_boxes,
}
