"""Leave a TIFF file's metadata and further pages out, and refuse the kinds that are not read."""

import io
import struct
from typing import IO

from deploy.errors import BadData
from deploy.image_files.formats import CAMERA_RAW, unsupported
from deploy.image_files.joined_parts import Splice
from deploy.image_files.orientation import Directory, first_directory, orientation

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_SUBFILE, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _INKS, _SAMPLE_FORMAT = 254, 284, 322, 323, 332, 339
_DNG_VERSION = 50706
_SENSOR = (32803, 34892)
"""Photometric interpretations of what a sensor gave."""
_PIXELS = (
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, 273, _SAMPLES, 278, 279, _PLANAR),
    *(292, 293, 317, 320, _TILE_WIDTH, _TILE_HEIGHT, 324, 325, _INKS, 338, _SAMPLE_FORMAT, 347),
    *(529, 530, 531, 532),
)
"""The tags that say where the pixels are and how they are coded."""
_JPEG, _YCBCR, _SEPARATE = 7, 6, 2
_COMPRESSIONS = {1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946}
"""None, CCITT, LZW, JPEG, deflate, PackBits."""
_COLOURS = {0, 1, 2, 3, 5, _YCBCR}
"""Grey with white as 0, grey, RGB, palette, CMYK, YCbCr."""
_MAX_TILE = 16_000_000
"""Pixels of a tile, at most: it is decoded whole, however small the picture."""


def bare_tiff(file: IO[bytes]) -> tuple[IO[bytes], int]:
    """Return the first page of a TIFF file without metadata, and its orientation, 1 to 8.

    Raises BadData where it is damaged, or of a kind that is not read.
    """
    directory = first_directory(file)
    if directory is None:
        raise BadData("the file is damaged: its header cannot be read")
    _check(file, directory)
    end = file.seek(0, io.SEEK_END)
    padding = end % 2
    splice = Splice(file)
    splice.keep(0, 4)
    splice.add(struct.pack(directory.order + "I", end + padding))
    splice.keep(8, end)
    splice.add(bytes(padding))
    tags = {*_PIXELS} & {*directory.entries}
    if directory.numbers(file, _SAMPLES, 1) in ((), (1,)):
        tags.discard(_PLANAR)  # one channel is one plane either way, and Pillow reads only one way
    entries = [directory.entries[tag] for tag in sorted(tags)]
    length = struct.pack(directory.order + "H", len(entries))
    splice.add(length + b"".join(entries) + bytes(4))
    return splice.open(), orientation(file) or 1


def _check(file: IO[bytes], directory: Directory) -> None:
    """Raise BadData for a picture that Pillow does not read, or reads with other colours."""

    def first(tag: int, default: int) -> int:
        return (directory.numbers(file, tag, 1) or (default,))[0]

    if not first(_WIDTH, 0) or not first(_HEIGHT, 0):
        raise BadData("the file is damaged: it has no width or height")
    photometric, compression = first(_PHOTOMETRIC, 0), first(_COMPRESSION, 1)
    bits = directory.numbers(file, _BITS) or (1,)
    if _DNG_VERSION in directory.entries or photometric in _SENSOR or first(_SUBFILE, 0) & 1:
        raise BadData(f"{CAMERA_RAW} (its first picture is no more than a thumbnail)")
    if compression not in _COMPRESSIONS:
        raise unsupported(f"a TIFF of compression {compression}")
    if photometric not in _COLOURS:
        raise unsupported(f"a TIFF of photometric interpretation {photometric}")
    if {*directory.numbers(file, _SAMPLE_FORMAT)} - {1}:
        raise unsupported("a TIFF of signed or floating-point values")
    least = 1 if photometric in (0, 1, 3) else 8
    if {*bits} - {1, 2, 4, 8, 16} or min(bits) < least or len({*bits}) > 1:
        raise unsupported(f"a TIFF of {' + '.join(map(str, bits))} bits")
    if bits[0] == 16 and photometric == 0:
        raise unsupported("a TIFF of 16 bits whose white is 0")
    if photometric == _YCBCR and compression != _JPEG:
        raise unsupported("a TIFF of YCbCr that is not JPEG inside")
    if first(_PLANAR, 1) == _SEPARATE and bits[0] == 16 and first(_SAMPLES, 1) > 1:
        raise unsupported("a TIFF of 16 bits with a plane for each channel")
    if first(_SAMPLES, 1) > 5:
        raise unsupported(f"a TIFF of {first(_SAMPLES, 1)} channels")
    if first(_TILE_WIDTH, 0) * first(_TILE_HEIGHT, 0) > _MAX_TILE:
        raise unsupported(f"a TIFF with tiles of more than {_MAX_TILE:,} pixels")
