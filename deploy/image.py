"""Turn the bytes of a photo into a tensor, in the same way on the laptop and on the device."""

import io
import math
import warnings
from importlib import import_module, metadata
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL import __version__ as pillow_version

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image_files.formats import (
    FORMATS,
    HEAD,
    claims_photo,
    sniff,
    unsupported,
    why_not_photo,
)
from deploy.image_files.strip_metadata import strip_metadata

__all__ = ["FORMATS", "HEAD", "claims_photo", "sniff", "why_not_photo"]
MAX_PHOTO_BYTES = 256 * 1024**2
"""Limit of a photo's file, checked before it is read into memory."""
TOO_LARGE = f"larger than {MAX_PHOTO_BYTES // 1024**2} MB"
"""Why a file above `MAX_PHOTO_BYTES` is no photo."""
MAX_PIXELS = 110_000_000
"""Pillow takes 4 bytes a pixel, and two copies at a time: 0.9 GB for the largest photo."""
_MAX_PIXELS_OF_FORMAT = {"WEBP": 40_000_000, "AVIF": 50_000_000, "HEIC": 50_000_000}
"""Their decoders take up to 20 bytes a pixel. A phone's HEIC has up to 49 million."""
MAX_SIDE = 65_535
"""The longest side of a JPEG; rows and filters of a long photo cost memory too."""
_PIXELS_PER_STRIP = 1_000_000
_BACKGROUND = (255, 255, 255)
_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes a picture of each EXIF orientation upright."""
_MIN_DRAFT_RATIO = 1.25
"""Least number of decoded pixels per pixel of the tensor, on each axis: the bicubic filter is then
as sharp as over all pixels, and a JPEG of 12 megapixels is decoded at 1/8."""

# Pillow warns of large sizes, which are limited here, and of odd metadata, which changes no pixel.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decoder() -> str:
    """Return the versions that decide the pixels, for the fingerprint of bottlenecks."""
    try:
        heif = metadata.version("pillow-heif")
    except metadata.PackageNotFoundError:
        heif = "none"
    return f"pillow-{pillow_version}/heif-{heif}/rules-4"


def open_image(source: bytes | IO[bytes], spec: InputSpec | None = None) -> Image.Image:
    """Decode a photo into an upright RGB image of 8 bits.

    EXIF orientation is applied, transparent pixels are laid over white, 16-bit grey is rescaled.
    An animation or a file of several pages gives its first picture. Metadata that cannot be read
    is ignored. With `spec`, a JPEG far larger than the tensor is decoded at 1/2, 1/4 or 1/8 scale,
    never below 1.25 times the tensor's pixels on an axis.
    Raises BadData, with the reason, for a photo that cannot be decoded in full.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    if stream.seek(0, io.SEEK_END) > MAX_PHOTO_BYTES:
        raise BadData(TOO_LARGE)
    stream.seek(0)
    head, path = stream.read(HEAD), getattr(stream, "name", None)
    reason = why_not_photo(head, Path(path) if isinstance(path, str) else None)
    if reason:
        raise BadData(reason)
    name = sniff(head) or ""
    try:
        file, orientation = strip_metadata(stream, name)
        file.seek(0)
        image = _open(file, name)
        max_pixels = min(MAX_PIXELS, _MAX_PIXELS_OF_FORMAT.get(name, MAX_PIXELS))
        if image.width * image.height > max_pixels:
            raise BadData(
                f"{image.width}x{image.height} pixels: more than {max_pixels:,} are refused"
            )
        if max(image.size) > MAX_SIDE:
            raise BadData(f"{image.width}x{image.height} pixels: a side has {MAX_SIDE:,} at most")
        if spec and name == "JPEG":
            side = math.ceil(_MIN_DRAFT_RATIO * max(spec.height, spec.width) / (spec.crop or 1))
            image.draft(None, (side, side))
        image.load()
        return upright(_apply_orientation(image, orientation))
    except UnidentifiedImageError as error:
        if name == "TIFF":  # sniff has read its header
            raise unsupported("a TIFF of a rare kind") from error
        raise BadData("the file is damaged: its header cannot be read") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, which is larger
        raise BadData(f"more than {MAX_PIXELS:,} pixels are refused") from error
    except BadData:
        raise
    except MemoryError as error:
        raise BadData("out of memory") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        if str(error).startswith(("Unsupported", "unknown raw mode")):
            raise unsupported(f"a {name} of a rare kind ({error})") from error
        raise BadData(f"the file is damaged: {error}") from error


def _open(file: IO[bytes], name: str) -> Image.Image:
    if name != "HEIC":
        return Image.open(file, formats=[name])
    image: Image.Image = import_module("pillow_heif").HeifImageFile(file)
    return image


def upright(image: Image.Image) -> Image.Image:
    """Return `image` in RGB of 8 bits with its EXIF orientation applied; may be the same object.

    Raises any exception of Pillow's decoders if `image` was not yet decoded.
    """
    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # bad metadata is not a bad photo; Pillow raises many kinds
        orientation = 1
    return _to_rgb(_apply_orientation(image, orientation))


def _apply_orientation(image: Image.Image, orientation: Any) -> Image.Image:
    """Return `image` upright, without its EXIF data."""
    if orientation not in _TRANSPOSES:
        return image
    upright_image = image.transpose(_TRANSPOSES[orientation])
    upright_image.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return upright_image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` in RGB, converted in strips: some modes take several copies of the pixels."""
    rows = max(1, _PIXELS_PER_STRIP // image.width)
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
    """Return the box of `image` that `spec` keeps: left, top, right and bottom, in pixels."""
    if spec.crop is None:
        return 0.0, 0.0, float(image.width), float(image.height)
    scale = spec.crop * min(image.width / spec.width, image.height / spec.height)
    width, height = spec.width * scale, spec.height * scale
    left = max(0.0, (image.width - width) / 2)
    top = max(0.0, (image.height - height) / 2)
    # Rounding may leave the frame by 1e-14 of a pixel, which Pillow refuses.
    return left, top, min(left + width, image.width), min(top + height, image.height)


def to_pixels(
    image: Image.Image, spec: InputSpec, box: tuple[float, float, float, float] | None = None
) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3): `box` of `image`, by default `kept_box`, resized."""
    return np.asarray(resize(image, spec, box or kept_box(image, spec)))[np.newaxis]


def resize(
    image: Image.Image, spec: InputSpec, box: tuple[float, float, float, float]
) -> Image.Image:
    """Return `box` of `image` (left, top, right and bottom, in pixels) in the size of `spec`."""
    left, top, right, bottom = box
    # In two passes, horizontally first: newer versions of Pillow resize tall images vertically
    # first, and the device may have an older one. The first pass gets only the rows that the filter
    # of the second one reaches.
    reach = math.ceil(2 * max(1.0, (bottom - top) / spec.height)) + 1
    first, last = max(0, int(top) - reach), min(image.height, math.ceil(bottom) + reach)
    rows = image.crop((0, first, image.width, last))
    row_resized = rows.resize(
        (spec.width, rows.height), Image.Resampling.BICUBIC, box=(left, 0, right, rows.height)
    )
    return row_resized.resize(
        (spec.width, spec.height),
        Image.Resampling.BICUBIC,
        box=(0, top - first, spec.width, bottom - first),
    )


def normalise(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return float32 (1, height, width, 3): (pixels - mean) / std."""
    tensor = pixels.astype(np.float32)
    tensor -= np.float32(spec.mean)
    tensor *= np.float32(1 / spec.std)
    return tensor


def to_tensor(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return float32 (1, height, width, 3), normalised as `spec` says."""
    return normalise(to_pixels(image, spec), spec)
