"""Read the orientation of a photo from EXIF or XMP data, even if the rest of it is broken."""

import io
import re
import struct
from typing import IO, NamedTuple

_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])\b")
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""The `struct` format of each TIFF type of an unsigned whole number."""


class Directory(NamedTuple):
    """The first directory of a TIFF file; `order` is `<` or `>`, an entry of a tag is 12 bytes."""

    order: str
    entries: dict[int, bytes]

    def numbers(self, file: IO[bytes], tag: int, max_count: int = 16) -> tuple[int, ...]:
        """Return the first `max_count` whole numbers of a tag; () without the tag or any number."""
        entry = self.entries.get(tag, bytes(12))
        kind, count = struct.unpack(self.order + "2xHI", entry[:8])
        letter = _WHOLE_NUMBERS.get(kind)
        if not letter:
            return ()
        count, size = min(count, max_count), struct.calcsize(letter)
        data = entry[8:]
        if struct.unpack(self.order + "4xI", entry[:8])[0] * size > 4:
            file.seek(struct.unpack(self.order + "I", data)[0])
            data = file.read(count * size)
        count = min(count, len(data) // size)
        return struct.unpack(f"{self.order}{count}{letter}", data[: count * size])


def first_directory(file: IO[bytes]) -> Directory | None:
    """Return the first directory of a TIFF file, or None if it is missing or cut off."""
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
    """Return the orientation, 1 to 8, in a TIFF file or EXIF data, or None."""
    directory = first_directory(file)
    values = directory.numbers(file, _ORIENTATION, 1) if directory else ()
    return values[0] if values and 1 <= values[0] <= 8 else None


def exif_orientation(block: bytes) -> int | None:
    """Return the orientation, 1 to 8, in a block of EXIF data, or None."""
    return orientation(io.BytesIO(block.removeprefix(b"Exif\0\0")))


def xmp_orientation(packet: bytes) -> int | None:
    """Return the orientation, 1 to 8, in an XMP packet, or None."""
    match = _XMP_ORIENTATION.search(packet)
    return int(match[1]) if match else None
