"""From a photo to a tensor: how much is decoded, what is cropped, resized and normalised."""

import numpy as np
import pytest
from PIL import Image

from deploy import image as rules
from deploy.contract import InputSpec
from deploy.image import normalise, open_image, to_pixels, to_tensor
from tests.helpers.deploy_fixtures import encoded
from tests.helpers.image_fixtures import smooth, spec

# How much of a JPEG is decoded


@pytest.mark.parametrize(
    ("size", "input_spec", "decoded"),
    [
        ((1024, 768), spec(32, 32, 0.875), (128, 96)),
        ((1024, 768), spec(64, 64, 0.875), (128, 96)),
        ((1024, 768), spec(64, 160, 0.875), (512, 384)),
        ((1024, 768), spec(224, 224, 0.875), (512, 384)),
        ((2000, 1500), spec(224, 224, 0.875), (500, 375)),
        ((640, 480), spec(224, 224, 0.875), (640, 480)),
        ((640, 560), spec(224, 224, None), (320, 280)),
        ((640, 559), spec(224, 224, None), (640, 559)),
        ((2000, 75), spec(32, 32, None), (2000, 75)),
        ((88, 88), spec(32, 32, 0.9), (88, 88)),
        ((90, 90), spec(32, 32, 0.9), (45, 45)),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_the_tensor_allows(
    size: tuple[int, int], input_spec: InputSpec, decoded: tuple[int, int]
) -> None:
    image = open_image(encoded(smooth(*size), "JPEG"), input_spec)
    assert image.size == decoded
    ratio = (input_spec.crop or 1) * min(
        image.width / input_spec.width, image.height / input_spec.height
    )
    assert ratio >= 1.25 or image.size == size


def test_without_a_spec_and_in_other_formats_all_pixels_are_decoded() -> None:
    picture = smooth(1024, 768)
    assert open_image(encoded(picture, "JPEG")).size == (1024, 768)
    assert open_image(encoded(picture, "PNG"), spec(32, 32, 0.875)).size == (1024, 768)


@pytest.mark.parametrize("crop", [0.875, None])
def test_decoding_at_reduced_scale_changes_no_pixel_much(crop: float | None) -> None:
    photo, input_spec = encoded(smooth(1024, 768), "JPEG", quality=95), spec(64, 64, crop)
    small = to_pixels(open_image(photo, input_spec), input_spec).astype(int)
    full = to_pixels(open_image(photo), input_spec).astype(int)
    assert np.abs(small - full).mean() < 1
    assert np.abs(small - full).max() <= 6


# What is cut out and how it is scaled


def ramp(width: int, height: int) -> Image.Image:
    """Return an image whose red is 3 times x and whose green is 4 times y."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([3 * x, 4 * y, 0 * x], axis=2).astype(np.uint8))


@pytest.mark.parametrize(
    ("input_spec", "box"),
    [
        (spec(30, 30, 0.5), (25, 15, 55, 45)),
        (spec(20, 40, 0.5), (20, 20, 60, 40)),
        (spec(60, 30, 1.0), (25, 0, 55, 60)),
        (spec(60, 80, 1.0), (0, 0, 80, 60)),
        (spec(60, 80, None), (0, 0, 80, 60)),
    ],
)
def test_the_crop_is_the_centre_pixel_by_pixel(
    input_spec: InputSpec, box: tuple[int, int, int, int]
) -> None:
    image = ramp(80, 60)
    pixels = to_pixels(image, input_spec)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (1, input_spec.height, input_spec.width, 3)
    assert np.array_equal(pixels[0], np.asarray(image.crop(box)))


@pytest.mark.parametrize(
    ("input_spec", "box"),
    [
        (spec(20, 20, 0.875), (13.75, 3.75, 66.25, 56.25)),
        (spec(20, 20, 1.0), (10, 0, 70, 60)),
        (spec(20, 20, None), (0, 0, 80, 60)),
        (spec(12, 32, 0.8), (8, 18, 72, 42)),
        (spec(32, 12, 0.8), (31, 6, 49, 54)),
        (spec(12, 32, None), (0, 0, 80, 60)),
        (spec(90, 160, None), (0, 0, 80, 60)),
    ],
)
def test_pixels_come_from_where_the_box_says(input_spec: InputSpec, box: tuple[float, ...]) -> None:
    left, top, right, bottom = box
    x = left + (np.arange(input_spec.width) + 0.5) * (right - left) / input_spec.width - 0.5
    y = top + (np.arange(input_spec.height) + 0.5) * (bottom - top) / input_spec.height - 0.5
    pixels = to_pixels(ramp(80, 60), input_spec)[0].astype(float)
    # A ramp stays a ramp, but at the frame's edge, where the filter has nothing to go on.
    inner = slice(3, -3)
    red, green = pixels[inner, inner, 0], pixels[inner, inner, 1]
    assert np.abs(red - 3 * x[np.newaxis, inner]).max() <= 1
    assert np.abs(green - 4 * y[inner, np.newaxis]).max() <= 1


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (100, 250), (90, 90), (37, 640)])
@pytest.mark.parametrize("box", [None, (10.5, 20.25, 31.75, 80.5), (0.0, 0.0, 37.0, 90.0)])
def test_an_image_is_resized_across_first_whatever_its_shape(
    size: tuple[int, int], box: tuple[float, float, float, float] | None
) -> None:
    """Pillow's own order of the two passes depends on its version, and on the shape."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    input_spec = spec(64, 48, 0.875)
    left, top, right, bottom = box or rules.kept_box(image, input_spec)
    bicubic = Image.Resampling.BICUBIC
    across = image.resize((48, image.height), bicubic, box=(left, 0, right, image.height))
    expected = np.asarray(across.resize((48, 64), bicubic, box=(0, top, 48, bottom))).astype(int)
    # A level is what float32 coordinates make of another origin; another order makes ten and more.
    assert np.abs(to_pixels(image, input_spec, box)[0] - expected).max() <= 1


def test_shrinking_weighs_every_pixel() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    image = Image.fromarray(board.astype(np.uint8)).convert("RGB")
    pixels = to_pixels(image, spec(8, 8, None)).astype(int)
    assert np.abs(pixels - 127).max() <= 2


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (128.0, 128.0, [-1, 0, 127 / 128]),
        (127.5, 127.5, [-1, 1 / 255, 1]),
        (0.0, 1.0, [0, 128, 255]),
    ],
)
def test_normalising_subtracts_the_mean_and_divides(
    mean: float, std: float, expected: list[float]
) -> None:
    pixels = np.array([0, 128, 255], np.uint8).reshape(1, 1, 1, 3)
    tensor = normalise(pixels, InputSpec(1, 1, None, mean, std))
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 1, 1, 3)
    assert tensor.flatten() == pytest.approx(expected, abs=1e-6)


def test_the_tensor_is_the_normalised_pixels_in_rgb_order() -> None:
    tensor = to_tensor(Image.new("RGB", (9, 9), (0, 128, 255)), spec(4, 6, 0.9))
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 4, 6, 3)
    assert tensor.reshape(-1, 3).tolist() == [[-1, 0, 127 / 128]] * 24
