"""One road from the bytes of a photo to a tensor, the same on the laptop and on the device."""

import io
import math
import warnings
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL import __version__ as pillow_version

from deploy.contract import InputSpec
from deploy.errors import BadData

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_BYTES = 256 * 1024**2
"""Larger files are refused before they are read into memory."""
MAX_PIXELS = 110_000_000
"""Larger photos are refused: with Pillow's 4 bytes a pixel, twice on the way, they take 0.9 GB."""
_MAX_WEBP = 40_000_000  # of which libwebp takes 20 bytes each
MAX_SIDE = 65_535
"""Longer photos are refused: the most that a JPEG has, and rows and filters cost memory too."""
_STRIP = 1_000_000
DECODER = f"pillow-{pillow_version}/rules-3"
"""Names everything here that can change a pixel; part of a bottleneck's fingerprint."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
_BACKGROUND = (255, 255, 255)
_ORIENTATION = 0x0112
_SPARE = 1.25
"""Pixels decoded for each that the tensor gets, on each axis, at least: a bicubic filter over so
many is as sharp as over all, and a 12-megapixel JPEG is then decoded at 1/8."""

# Pillow warns of large sizes (the limit here is ours) and of odd metadata (pixels are right).
warnings.filterwarnings("ignore", module=r"PIL\.")


def sniff(head: bytes) -> str | None:
    """Return the format that the first 16 bytes of a file show, or None.

    Formats outside FORMATS (TIFF, HEIF) are named too, so that a message can say so.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            # A text may begin with "BM": a bitmap's bytes 6 to 10 are reserved, and zero.
            return None if name == "BMP" and head[6:10] != bytes(4) else name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"msf1"):
        return "HEIF"
    return None


def why_not_photo(head: bytes) -> str | None:
    """Return why a file that starts with these bytes is not read as a photo, or None if it is."""
    if not head:
        return "the file is empty"
    name = sniff(head)
    if name is None:
        return "not a photo: its content is none of " + ", ".join(FORMATS)
    if name not in FORMATS:
        return f"a {name} file: convert it to JPEG or PNG"
    return None


def claims_photo(path: Path, head: bytes) -> bool:
    """Return whether a file says that it is a photo, by its first 16 bytes or else by its name."""
    # By its content too: Pillow does not register .heic, and a phone's photos must not vanish.
    return bool(sniff(head)) or path.suffix.lower() in Image.registered_extensions()


def open_image(source: bytes | IO[bytes], spec: InputSpec | None = None) -> Image.Image:
    """Decode a photo into an upright RGB image of 8 bits.

    EXIF orientation is applied, transparency is laid over white, 16-bit grey is rescaled,
    animations give their first frame. With `spec`, a JPEG far larger than the tensor is decoded
    at 1/2, 1/4 or 1/8 scale, never below 1.25 times the tensor's pixels on an axis.
    Raises BadData, with the reason, for anything that cannot be decoded in full.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    if stream.seek(0, io.SEEK_END) > MAX_BYTES:
        raise BadData(f"larger than {MAX_BYTES // 1024**2} MB")
    stream.seek(0)
    reason = why_not_photo(stream.read(16))
    if reason:
        raise BadData(reason)
    stream.seek(0)
    try:
        image = Image.open(stream, formats=FORMATS)
        most = min(MAX_PIXELS, _MAX_WEBP) if image.format == "WEBP" else MAX_PIXELS
        if image.width * image.height > most:
            raise BadData(f"{image.width}x{image.height} pixels: more than {most:,} are refused")
        if max(image.size) > MAX_SIDE:
            raise BadData(f"{image.width}x{image.height} pixels: a side has {MAX_SIDE:,} at most")
        if spec:
            side = math.ceil(_SPARE * max(spec.height, spec.width) / (spec.crop or 1))
            image.draft(None, (side, side))
        return upright(image)
    except UnidentifiedImageError as error:
        raise BadData("the file is damaged: its header cannot be read") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit is the larger one
        raise BadData(f"more than {MAX_PIXELS:,} pixels are refused") from error
    except BadData:
        raise
    except MemoryError as error:
        raise BadData("out of memory") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise BadData(f"the file is damaged: {error}") from error


def upright(image: Image.Image) -> Image.Image:
    """Return `image` in RGB of 8 bits, turned as its EXIF data says; it may be the same object.

    Raises what Pillow's decoders raise, of many kinds, where `image` was not yet decoded.
    """
    image.load()
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` in RGB; in strips where it is large, since some modes take several copies."""
    rows = max(1, _STRIP // image.width)
    if image.height <= rows or (image.mode == "RGB" and "transparency" not in image.info):
        return _strip_to_rgb(image)
    rgb = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_strip_to_rgb(strip), (0, top))
    return rgb


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion saturates it
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, _BACKGROUND)
        flat.paste(image, mask=image.getchannel("A"))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def kept_box(image: Image.Image, spec: InputSpec) -> tuple[float, float, float, float]:
    """Return what `spec` keeps of `image`: left, top, right and bottom, in pixels."""
    if spec.crop is None:
        return 0.0, 0.0, float(image.width), float(image.height)
    scale = spec.crop * min(image.width / spec.width, image.height / spec.height)
    width, height = spec.width * scale, spec.height * scale
    left = max(0.0, (image.width - width) / 2)
    top = max(0.0, (image.height - height) / 2)
    # Rounding must not leave the frame, if by 1e-14 of a pixel: Pillow refuses that.
    return left, top, min(left + width, image.width), min(top + height, image.height)


def to_pixels(
    image: Image.Image, spec: InputSpec, box: tuple[float, float, float, float] | None = None
) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3): `box` of `image`, else what `spec` keeps, resized."""
    left, top, right, bottom = box or kept_box(image, spec)
    # In two passes, as Pillow did it by itself until it began to do tall images vertically first:
    # the device may have an older one. The first gets the rows that the second's filter reaches.
    reach = math.ceil(2 * max(1.0, (bottom - top) / spec.height)) + 1
    first, last = max(0, int(top) - reach), min(image.height, math.ceil(bottom) + reach)
    rows = image.crop((0, first, image.width, last))
    across = rows.resize(
        (spec.width, rows.height), Image.Resampling.BICUBIC, box=(left, 0, right, rows.height)
    )
    resized = across.resize(
        (spec.width, spec.height),
        Image.Resampling.BICUBIC,
        box=(0, top - first, spec.width, bottom - first),
    )
    return np.asarray(resized)[np.newaxis]


def normalise(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return float32 (1, height, width, 3): (pixels - mean) / std."""
    tensor = pixels.astype(np.float32)
    tensor -= np.float32(spec.mean)
    tensor *= np.float32(1 / spec.std)
    return tensor


def to_tensor(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return float32 (1, height, width, 3), normalised as `spec` says."""
    return normalise(to_pixels(image, spec), spec)
