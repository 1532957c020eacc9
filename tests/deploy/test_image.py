"""From the bytes of a photo to its colours: every rule checked by the pixels it gives."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy import image as rules
from deploy.errors import BadData
from deploy.image import FORMATS, open_image, sniff, to_tensor, upright
from tests.helpers.deploy_fixtures import encoded
from tests.helpers.image_fixtures import smooth, spec

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def colour(photo: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    """Return the colour that an opened photo has at a pixel."""
    image = open_image(photo)
    assert image.mode == "RGB"
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def png(
    width: int, height: int, bits: int, colour_type: int, rows: bytes, extra: bytes = b""
) -> bytes:
    """Return a PNG file by its specification, without Pillow's help."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    transparency = chunk(b"tRNS", extra) if extra else b""
    pixels = chunk(b"IDAT", zlib.compress(rows, level=1))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparency + pixels + chunk(b"IEND", b"")
    )


# What a file is


ENCODED = [name for name in FORMATS if name != "HEIC"]  # which Pillow alone cannot write


@pytest.mark.parametrize("name", ENCODED)
def test_formats_are_known_by_content_and_opened(name: str) -> None:
    photo = encoded(Image.new("RGB", (24, 16), (208, 32, 64)), name)
    assert sniff(photo[:16]) == name
    assert open_image(photo).size == (24, 16)
    assert colour(photo, 23, 15) == pytest.approx((208, 32, 64), abs=4)


def test_the_older_gif_is_a_gif_too() -> None:
    photo = encoded(Image.new("RGB", (4, 4), RED), "GIF").replace(b"GIF89a", b"GIF87a")
    assert (sniff(photo[:16]), colour(photo)) == ("GIF", RED)


@pytest.mark.parametrize(
    "text",
    [
        b"notes on cats\n",
        b"BM: a maker of motorcycles",
        b"BM",
        b"\xff\xfe\xfd",
        b"RIFF\0\0\0\0WAVE",
    ],
)
def test_what_is_no_photo_is_told_what_would_be(text: bytes) -> None:
    with pytest.raises(
        BadData, match=r"not a photo: .* none of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC"
    ):
        open_image(text)


def test_an_empty_file_is_called_empty() -> None:
    with pytest.raises(BadData, match="the file is empty"):
        open_image(b"")


@pytest.mark.parametrize("name", ENCODED)
def test_half_a_file_is_damaged(name: str) -> None:
    photo = encoded(smooth(64, 64), name)
    with pytest.raises(BadData, match=r"the file is damaged: ."):
        open_image(photo[: len(photo) // 2])


def test_a_truncated_jpeg_says_so() -> None:
    with pytest.raises(BadData, match=r"the file is damaged: .*truncated"):
        open_image(encoded(smooth(200, 200), "JPEG")[:-500])


@pytest.mark.parametrize("head", [b"\xff\xd8\xff", b"GIF89a"])
def test_a_signature_without_a_photo_is_damaged(head: bytes) -> None:
    with pytest.raises(BadData, match="the file is damaged: its header cannot be read"):
        open_image(head + b"junk" * 20)


# What its pixels are


def test_16_bit_grey_is_rescaled_over_the_whole_range() -> None:
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    levels[-1, -1] = 65535
    opened = np.asarray(open_image(encoded(Image.fromarray(levels), "PNG")))
    expected = np.rint(levels / 257)
    assert len(np.unique(expected)) == 256
    for channel in range(3):
        assert np.array_equal(opened[..., channel], expected)


@pytest.mark.parametrize(
    ("ink", "expected"),
    [((0, 255, 255, 0), RED), ((255, 255, 0, 0), BLUE), ((0, 0, 0, 128), (127, 127, 127))],
)
def test_cmyk_becomes_the_colours_that_it_prints(ink: Any, expected: tuple[int, int, int]) -> None:
    photo = encoded(Image.new("CMYK", (16, 16), ink), "JPEG")
    assert colour(photo) == pytest.approx(expected, abs=4)


@pytest.mark.parametrize(
    ("orientation", "corners"),
    [
        (1, (RED, GREEN, BLUE, WHITE)),
        (2, (GREEN, RED, WHITE, BLUE)),
        (3, (WHITE, BLUE, GREEN, RED)),
        (4, (BLUE, WHITE, RED, GREEN)),
        (5, (RED, BLUE, GREEN, WHITE)),
        (6, (BLUE, RED, WHITE, GREEN)),
        (7, (WHITE, GREEN, BLUE, RED)),
        (8, (GREEN, WHITE, RED, BLUE)),
    ],
)
@pytest.mark.parametrize("reduced", [False, True])
def test_a_camera_held_any_way_gives_an_upright_photo(
    orientation: int, corners: tuple[Any, ...], reduced: bool
) -> None:
    """`corners` are those of the upright photo: top left, top right, bottom left, bottom right."""
    stored = Image.new("RGB", (320, 160))
    for i, shade in enumerate((RED, GREEN, BLUE, WHITE)):
        stored.paste(shade, (i % 2 * 160, i // 2 * 80, i % 2 * 160 + 160, i // 2 * 80 + 80))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = encoded(stored, "JPEG", exif=exif, quality=95)
    upright = open_image(photo, spec(32, 32, None) if reduced else None)
    factor = 4 if reduced else 1
    size = (320 // factor, 160 // factor)
    assert upright.size == (size if orientation < 5 else size[::-1])
    right, bottom = upright.width - 1, upright.height - 1
    for point, shade in zip(
        ((0, 0), (right, 0), (0, bottom), (right, bottom)), corners, strict=True
    ):
        assert upright.getpixel(point) == pytest.approx(shade, abs=6)


def test_transparency_is_laid_over_white() -> None:
    half = Image.new("RGBA", (4, 4), (200, 0, 100, 128))
    assert colour(encoded(half, "PNG")) == pytest.approx((227, 127, 177), abs=1)
    assert colour(encoded(half, "WEBP", lossless=True)) == pytest.approx((227, 127, 177), abs=1)


@pytest.mark.parametrize(("level", "expected"), [((0, 0), 255), ((90, 255), 90), ((0, 128), 127)])
def test_grey_with_alpha_is_laid_over_white(level: tuple[int, int], expected: int) -> None:
    photo = encoded(Image.new("LA", (4, 4), level), "PNG")
    assert colour(photo) == pytest.approx((expected, expected, expected), abs=1)


def test_a_palette_with_transparent_colours_is_laid_over_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    photo = encoded(image, "PNG", transparency=bytes([0, 255, 128]))
    assert [colour(photo, x) for x in (0, 1)] == [WHITE, GREEN]
    assert colour(photo, 2) == pytest.approx((127, 127, 255), abs=1)
    opened = encoded(image, "GIF", transparency=2)
    assert [colour(opened, x) for x in (0, 1, 2)] == [RED, GREEN, WHITE]


@pytest.mark.parametrize(
    ("bits", "colour_type", "rows", "key", "expected"),
    [
        (8, 2, b"\0" + bytes([10, 20, 30, *RED]), b"\0\x0a\0\x14\0\x1e", [WHITE, RED]),
        (8, 0, b"\0" + bytes([10, 90]), b"\0\x0a", [WHITE, (90, 90, 90)]),
    ],
)
def test_a_transparent_key_colour_is_white(
    bits: int, colour_type: int, rows: bytes, key: bytes, expected: list[Any]
) -> None:
    photo = png(2, 1, bits, colour_type, rows, key)
    assert [colour(photo, x) for x in (0, 1)] == expected


@pytest.mark.parametrize(("mode", "level", "expected"), [("L", 77, 77), ("1", 1, 255), ("1", 0, 0)])
def test_greyscale_gives_three_equal_channels(mode: str, level: int, expected: int) -> None:
    assert colour(encoded(Image.new(mode, (4, 4), level), "PNG")) == (expected, expected, expected)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(name: str) -> None:
    frames = [Image.new("RGB", (8, 8), shade) for shade in (RED, BLUE)]
    photo = encoded(frames[0], name, save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(photo)) as animation:
        assert getattr(animation, "n_frames", 1) == 2
    assert colour(photo) == pytest.approx(RED, abs=4)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(12_000, 10_001), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_header_that_promises_too_many_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadData, match="110,000,000") as raised:
        open_image(png(*size, 8, 0, b""))
    assert "damaged" not in str(raised.value)


@pytest.mark.parametrize("size", [(1, 20_000_000), (65_536, 2)])
def test_a_header_that_promises_a_long_side_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadData, match=rf"{size[0]}x{size[1]} pixels: a side has 65,535 at most"):
        open_image(png(*size, 8, 0, b""))
    long = open_image(encoded(Image.new("L", (1, 65_535), 9), "PNG"))
    assert to_tensor(long, spec(32, 32, None)).shape == (1, 32, 32, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "I;16", "1"])
def test_a_large_image_is_converted_in_strips_to_the_same_pixels(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0).integers(0, 256, (37, 50, 4), np.uint8)
    if mode == "I;16":
        image = Image.fromarray(random[..., :2].copy().view(np.uint16)[..., 0])
    else:
        source = Image.fromarray(random)
        image = source.quantize(16) if mode == "P" else source.convert(mode)
    if mode in ("P", "L"):
        image.info["transparency"] = 3
    whole = np.asarray(upright(image))
    monkeypatch.setattr(rules, "_PIXELS_PER_STRIP", 400)
    assert np.array_equal(np.asarray(upright(image)), whole)
    assert len(np.unique(whole)) > 1


_LIMITED = """
import resource, sys
from deploy.contract import InputSpec
from deploy.image import open_image, to_pixels
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
image = open_image(open(sys.argv[1], "rb"))
for crop in (None, 0.875):
    print(to_pixels(image, InputSpec(224, 224, crop, 128, 128)).shape)
"""


@pytest.mark.parametrize(
    ("size", "bits", "colour_type"),
    [
        ((10_000, 11_000), 8, 2),
        ((10_000, 11_000), 8, 6),
        ((11_000, 10_000), 16, 0),
        ((1_678, 65_535), 8, 6),
    ],
    ids=["RGB", "RGBA", "16 bits", "tall"],
)
def test_the_largest_photos_take_less_than_a_gigabyte(
    size: tuple[int, int], bits: int, colour_type: int, tmp_path: Path
) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    row = b"\0" + bytes(size[0] * channels * bits // 8)
    (tmp_path / "large.png").write_bytes(png(*size, bits, colour_type, row * size[1]))
    process = subprocess.run(
        [sys.executable, "-c", _LIMITED, tmp_path / "large.png"],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr) == ("(1, 224, 224, 3)\n" * 2, "")


def test_too_little_memory_is_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(rules, "upright", fail)
    with pytest.raises(BadData, match=r"^out of memory$"):
        open_image(encoded(Image.new("RGB", (4, 4)), "PNG"))


def test_the_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_PIXELS", 100)
    assert open_image(encoded(Image.new("RGB", (10, 10)), "PNG")).size == (10, 10)
    with pytest.raises(BadData, match="101x1 pixels: more than 100 are refused"):
        open_image(encoded(Image.new("RGB", (101, 1)), "PNG"))


def test_a_large_photo_is_no_reason_for_a_warning() -> None:
    code = (
        "import sys; from deploy.errors import BadData; from deploy.image import open_image\n"
        "try: open_image(sys.stdin.buffer.read())\n"
        "except BadData as error: print(error)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], input=png(10_000, 10_000, 8, 0, b""), capture_output=True
    )
    # No pixels follow; of the size, above Pillow's limit and below ours, nothing is said.
    assert (process.stdout[:19], process.stderr) == (b"the file is damaged", b"")


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_bytes_and_stream_give_the_same_tensor(name: str) -> None:
    photo, input_spec = encoded(smooth(300, 200), name), spec(32, 32, 0.875)
    by_stream = to_tensor(open_image(io.BytesIO(photo), input_spec), input_spec)
    assert np.array_equal(to_tensor(open_image(photo, input_spec), input_spec), by_stream)
    assert by_stream.std() > 0.3
