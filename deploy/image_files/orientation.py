"""Read how a camera was held from EXIF and XMP data, however broken the rest of them is."""

import io
import re
import struct
from typing import IO, NamedTuple

_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])\b")
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""TIFF's types of whole numbers without a sign, as `struct` writes them."""


class Directory(NamedTuple):
    """The first directory of a TIFF file: `<` or `>` by its byte order, and entries of 12 bytes."""

    order: str
    entries: dict[int, bytes]

    def numbers(self, file: IO[bytes], tag: int, most: int = 16) -> tuple[int, ...]:
        """Return the first whole numbers of a tag, at most `most`; none where there are none."""
        entry = self.entries.get(tag, bytes(12))
        kind, count = struct.unpack(self.order + "2xHI", entry[:8])
        letter = _WHOLE_NUMBERS.get(kind)
        if not letter:
            return ()
        count, size = min(count, most), struct.calcsize(letter)
        data = entry[8:]
        if struct.unpack(self.order + "4xI", entry[:8])[0] * size > 4:
            file.seek(struct.unpack(self.order + "I", data)[0])
            data = file.read(count * size)
        count = min(count, len(data) // size)
        return struct.unpack(f"{self.order}{count}{letter}", data[: count * size])


def first_directory(file: IO[bytes]) -> Directory | None:
    """Return the first directory of a TIFF file, or None where there is none or it is cut off."""
    file.seek(0)
    head = file.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return None
    file.seek(struct.unpack(order + "I", head[4:])[0])
    length = file.read(2)
    if len(length) < 2:
        return None
    table = file.read(12 * struct.unpack(order + "H", length)[0])
    entries = (table[at : at + 12] for at in range(0, len(table) - 11, 12))
    return Directory(order, {struct.unpack(order + "H", e[:2])[0]: e for e in entries})


def orientation(file: IO[bytes]) -> int | None:
    """Return the orientation, 1 to 8, that EXIF data or a TIFF file names, or None."""
    directory = first_directory(file)
    values = directory.numbers(file, _ORIENTATION, 1) if directory else ()
    return values[0] if values and 1 <= values[0] <= 8 else None


def exif_orientation(block: bytes) -> int | None:
    """Return the orientation, 1 to 8, that a block of EXIF data names, or None."""
    return orientation(io.BytesIO(block.removeprefix(b"Exif\0\0")))


def xmp_orientation(packet: bytes) -> int | None:
    """Return the orientation, 1 to 8, that an XMP packet names, or None."""
    match = _XMP_ORIENTATION.search(packet)
    return int(match[1]) if match else None
