"""Leave a PNG file's metadata out: chunks of a size, a name, data and a checksum."""

import re
import zlib
from collections.abc import Iterator
from typing import IO

from deploy.errors import BadData
from deploy.image_files.formats import unsupported
from deploy.image_files.joined_parts import MAX_METADATA, Block, Splice, beginning, limited
from deploy.image_files.orientation import exif_orientation, xmp_orientation


def bare_png(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """Return a PNG file without metadata, and its orientation, 1 to 8.

    Raises BadData where the chunks that make pixels are damaged.
    """
    splice, by_exif, by_xmp = Splice(file), None, None
    splice.keep(0, 8)
    before = b""
    pixels_over = False
    for name, start, size in limited(_chunks(file)):
        pixels_over |= before == b"IDAT" != name
        before = name
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT") and not pixels_over:
            _check_sum(file, name, start, size)
            splice.keep(start, start + size)
        elif name == b"CgBI":
            raise unsupported("a PNG for iOS apps")
        elif name == b"eXIf":
            by_exif = by_exif or exif_orientation(beginning(file, start + 8, size - 12))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _text(name, beginning(file, start + 8, size - 12))
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
            text = zlib.decompressobj().decompress(text, MAX_METADATA)
        except zlib.error:
            text = b""
    return keyword, text
