"""Metadata is no damage: whatever it holds, the pixels decide, and those are checked."""

import io
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from deploy.errors import BadData
from deploy.image import open_image, upright
from deploy.image_files import strip_metadata
from deploy.image_files.formats import can_load
from tests.helpers.deploy_fixtures import encoded
from tests.helpers.image_fixtures import smooth

PICTURE = smooth(40, 24)
TURNED = PICTURE.transpose(Image.Transpose.ROTATE_270)
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""Of a camera held upright, so that its picture is to be turned."""
XMP = b"<x:xmpmeta><rdf:Description tiff:Orientation='6'/></x:xmpmeta>"
MEGABYTE = 1 << 20


def chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG file."""
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(*chunks: bytes, after: bytes = b"") -> bytes:
    """Return the picture as a PNG file with chunks before its pixels, and after them."""
    photo = encoded(PICTURE, "PNG")
    return photo[:33] + b"".join(chunks) + photo[33:-12] + after + photo[-12:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """Return the picture as a JPEG file with segments before the others."""
    parts = (struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data for kind, data in segments)
    photo = encoded(PICTURE, "JPEG", quality=95, subsampling=0)
    return photo[:2] + b"".join(parts) + photo[2:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return the picture as a WebP file with chunks after its pixels."""
    canvas = struct.pack("<I", 0x2C) + struct.pack("<I", 39)[:3] + struct.pack("<I", 23)[:3]
    body = encoded(PICTURE, "WEBP", lossless=True)[12:]
    for name, data in chunks:
        body += name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + body
    return b"RIFF" + struct.pack("<I", len(body)) + body


def check(photo: bytes, expected: Image.Image = PICTURE) -> None:
    """Check that a photo opens as `expected`."""
    opened = open_image(photo)
    assert opened.size == expected.size
    assert np.abs(np.asarray(opened).astype(int) - np.asarray(expected)).mean() < 3


LONG = b"x" * (3 * MEGABYTE)
HEX = b"\nexif\n      26\n" + EXIF.hex().encode() + b"\n"
BROKEN_EXIF = {
    "empty": b"",
    "text": b"no EXIF at all",
    "cut off": EXIF[:12],
    "no directory": b"MM\0*\xff\xff\xff\xff",
    "itself": b"II*\0\0\0\0\0",
    "65,535 entries": b"MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x02",
    "unknown type": EXIF.replace(b"\x12\0\x03", b"\x12\0\x77"),
    "orientation 9": EXIF.replace(b"\0\x06\0\0", b"\0\x09\0\0"),
    "pointer as text": b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x02\0\0\0\x04abcd\0\0\0\0",
}


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1_200_000))),
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(np.random.default_rng(0).bytes(1_200_000))),
        chunk(b"iCCP", b"icc\0\x07not deflated"),
        chunk(b"iCCP", b""),
        chunk(b"tEXt", b"Comment\0" + LONG),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
        chunk(b"zTXt", b"Comment\0\x09" + zlib.compress(LONG)),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0not deflated"),
        chunk(b"iTXt", b"\xff"),
        chunk(b"tEXt", b"Raw profile type exif\0not\nhexa\ndecimal\nabc"),
        chunk(b"tEXt", b"Raw profile type exif\0"),
        chunk(b"pHYs", b"short"),
        chunk(b"gAMA", b""),
        chunk(b"acTL", b"\0\0"),
        chunk(b"fcTL", b"\xff" * 26),
        chunk(b"tEXt", b"a\0b", checksum=7),
        chunk(b"eXIf", EXIF[:20], checksum=7),
        chunk(b"a\xff\0b", b"no letters"),
        *(chunk(b"eXIf", block) for block in BROKEN_EXIF.values()),
    ],
)
def test_no_metadata_of_a_png_is_damage(chunks: bytes) -> None:
    check(png(chunks))
    check(png(after=chunks))


def test_text_that_unpacks_to_40_megabytes_takes_no_memory() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(40)) + packer.flush()
    tracemalloc.start()
    check(png(*(chunk(b"zTXt", key + b"\0\0" + bomb) for key in (b"a", b"Raw profile type exif"))))
    assert tracemalloc.get_traced_memory()[1] < 10 * MEGABYTE
    tracemalloc.stop()


@pytest.mark.parametrize("block", BROKEN_EXIF.values(), ids=list(BROKEN_EXIF))
def test_broken_exif_counts_as_none(block: bytes) -> None:
    check(jpeg((0xE1, b"Exif\0\0" + block)))
    check(webp((b"EXIF", block)))
    check(webp((b"EXIF", b"Exif\0\0" + block)))


@pytest.mark.parametrize(
    "segment",
    [
        (0xE2, b"MPF\0" + b"\xff" * 40),
        (0xE2, b"MPF\0MM\0*\0\0\0\x08\0\x01\xb0\0\0\x02\0\0\0\x04"),
        (0xE2, b"ICC_PROFILE\0\x09\x01" + bytes(500)),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"),
        (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff"),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
        (0xE0, b"JFIF\0"),
        (0xEE, b"Adobe"),
        (0xFE, b""),
    ],
)
def test_no_metadata_of_a_jpeg_is_damage(segment: tuple[int, bytes]) -> None:
    check(jpeg(segment))


@pytest.mark.parametrize("chunk", [(b"ICCP", b"no profile"), (b"XMP ", b"<"), (b"EXIF", b"")])
def test_no_metadata_of_a_webp_is_damage(chunk: tuple[bytes, bytes]) -> None:
    check(webp(chunk))


@pytest.mark.parametrize(
    "photo",
    [
        png(chunk(b"eXIf", EXIF)),
        png(chunk(b"eXIf", b"Exif\0\0" + EXIF)),
        png(after=chunk(b"eXIf", EXIF)),
        png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEX))),
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        png(chunk(b"eXIf", b""), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        jpeg((0xE1, b"Exif\0\0" + EXIF)),
        jpeg((0xE1, b"Exif\0\0" + EXIF), (0xE2, b"MPF\0" + b"\xff" * 40)),
        jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
        webp((b"EXIF", EXIF)),
        webp((b"XMP ", XMP)),
        webp((b"ICCP", b"no profile"), (b"EXIF", EXIF)),
    ],
)
def test_the_orientation_is_read_beside_broken_metadata(photo: bytes) -> None:
    check(photo, TURNED)


def test_a_photo_that_the_user_opened_may_have_broken_metadata() -> None:
    image = Image.open(io.BytesIO(png(chunk(b"eXIf", b"MM\0*\xff"))))
    assert np.array_equal(np.asarray(upright(image)), np.asarray(PICTURE))


@pytest.mark.skipif(not can_load("PIL._avif"), reason="this Pillow has no AVIF")
def test_broken_exif_of_an_avif_counts_as_none() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker of cameras"
    photo = encoded(PICTURE, "AVIF", exif=exif, xmp=XMP, quality=95, subsampling="4:4:4")
    start = photo.index(b"a maker of cameras") - 40
    check(photo[:start] + re.sub(rb"MM\0\*|II\*\0", b"junk", photo[start:], count=1))


def test_damaged_pixels_stay_an_error() -> None:
    intact = png(chunk(b"tEXt", b"a\0b"))
    at = intact.index(b"IDAT") + 20
    for photo, reason in (
        (intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :], "the checksum of IDAT is wrong"),
        (intact[: at + 40], "truncated"),
        (intact.replace(b"\0\0\0\x28", b"\0\0\0\x29", 1), "the checksum of IHDR is wrong"),
        (jpeg()[:-200], "truncated"),
        (webp()[:-200], "."),
    ):
        with pytest.raises(BadData, match=f"^the file is damaged: .*{reason}"):
            open_image(photo)


def test_a_file_of_countless_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strip_metadata, "MAX_BLOCKS", 2000)
    long = webp(*[(b"XMP ", b"")] * 2001)
    for photo in (png(chunk(b"tEXt", b"") * 2001), b"\xff\xd8" + b"\xff" * 3000, long):
        with pytest.raises(BadData, match="more than 2,000 blocks"):
            open_image(photo)


@pytest.mark.parametrize(
    ("photo", "start", "length"),
    [
        (png(chunk(b"eXIf", EXIF), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)), 41, 150),
        (jpeg((0xE1, b"Exif\0\0" + EXIF), (0xE2, b"MPF\0" + EXIF)), 6, 60),
        (webp((b"EXIF", EXIF)), -26, 26),
    ],
    ids=["PNG", "JPEG", "WEBP"],
)
def test_flipped_bits_of_metadata_change_at_most_the_orientation(
    photo: bytes, start: int, length: int
) -> None:
    source = np.random.default_rng(0)
    plain = np.asarray(open_image(photo).transpose(Image.Transpose.ROTATE_90))
    ways = [Image.fromarray(plain), *(Image.fromarray(plain).transpose(t) for t in Image.Transpose)]
    allowed = {(image.size, image.tobytes()) for image in ways}
    for _ in range(300):
        data = bytearray(photo)
        for _ in range(source.integers(1, 20)):
            data[start % len(photo) + source.integers(length)] ^= 1 << int(source.integers(8))
        try:
            opened = open_image(bytes(data))
        except BadData:  # a flip may reach the size of the next block
            continue
        assert (opened.size, opened.tobytes()) in allowed
