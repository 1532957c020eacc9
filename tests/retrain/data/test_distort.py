"""Random views: where each comes from, how its colours change, and what decides that."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageEnhance

from deploy.contract import InputSpec
from deploy.errors import WrongUse
from deploy.image import kept_box, to_pixels
from retrain.data.distort import RULES, distort
from retrain.settings.training import Distortion

DIGESTS = [hashlib.sha256(str(i).encode()).digest() for i in range(400)]
WHOLE = InputSpec(32, 48, None, 128, 128)
CENTRE = InputSpec(32, 48, 0.875, 128, 128)


def ramp(width: int = 240, height: int = 200) -> Image.Image:
    """Return an image whose red is x and whose green is y."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def noise() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 130, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (60, 40), (level, level, level))


def views(image: Image.Image, spec: InputSpec, distortion: Distortion) -> npt.NDArray[np.uint8]:
    """Return the first view under each of DIGESTS."""
    return np.concatenate([distort(image, spec, distortion, digest, 0) for digest in DIGESTS])


def boxes(distortion: Distortion, spec: InputSpec) -> npt.NDArray[np.float64]:
    """Return left, top, right and bottom of views of the ramp, a row each, as its colours tell."""
    pixels = views(ramp(), spec, distortion).astype(float)
    sides = []
    # At the frame's edge the filter has nothing to go on, and the ramp is none.
    for values in (pixels[:, 4:-4, 4:-4, 0].mean(axis=1), pixels[:, 4:-4, 4:-4, 1].mean(axis=2)):
        count = values.shape[1]
        step, middle = np.polyfit(np.arange(count) - (count - 1) / 2, values.T, 1)
        half = step * (count + 8) / 2
        sides.append((middle + 0.5 - half, middle + 0.5 + half))
    (left, right), (top, bottom) = sides
    return np.stack([left, top, right, bottom], axis=1)


def assert_uniform(values: npt.NDArray[np.float64], low: float, high: float) -> None:
    """Compare the values' distribution with the uniform one (Kolmogorov and Smirnov's distance)."""
    ranks = (np.arange(len(values)) + 0.5) / len(values)
    assert np.abs((np.sort(values) - low) / (high - low) - ranks).max() < 0.08


@pytest.mark.parametrize("spec", [WHOLE, CENTRE])
def test_with_nothing_on_a_view_is_the_photo_itself(spec: InputSpec) -> None:
    image = noise()
    assert not Distortion().active
    for view in range(20):
        pixels = distort(image, spec, Distortion(), DIGESTS[view], view)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (1, 32, 48, 3)
        assert np.array_equal(pixels, to_pixels(image, spec))


@pytest.mark.parametrize(
    "distortion",
    [
        Distortion(flip_left_right=True),
        Distortion(random_crop=1),
        Distortion(random_scale=1),
        Distortion(random_brightness=1),
        Distortion(random_contrast=1),
        Distortion(random_saturation=1),
    ],
)
def test_each_option_alone_is_active(distortion: Distortion) -> None:
    assert distortion.active


@pytest.mark.parametrize("spec", [WHOLE, CENTRE])
def test_half_of_the_views_are_mirrored(spec: InputSpec) -> None:
    image = noise()
    photo = to_pixels(image, spec)[0]
    observed = views(image, spec, Distortion(flip_left_right=True))
    mirrored = np.array([np.array_equal(view, photo[:, ::-1]) for view in observed])
    assert all(np.array_equal(view, photo) for view in observed[~mirrored])
    assert mirrored.mean() == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("spec", [WHOLE, CENTRE])
def test_a_crop_is_a_box_of_the_field_of_one_size_anywhere(spec: InputSpec) -> None:
    field = np.array(kept_box(ramp(), spec))
    size = field[2:] - field[:2]
    observed = boxes(Distortion(random_crop=50), spec)
    assert np.abs(observed[:, 2:] - observed[:, :2] - size / 1.5).max() < 1
    assert (observed[:, :2] > field[:2] - 0.6).all()
    assert (observed[:, 2:] < field[2:] + 0.6).all()
    places = (observed[:, :2] - field[:2]) / (size - size / 1.5)
    for place in places.T:
        assert_uniform(place, 0, 1)


@pytest.mark.parametrize("spec", [WHOLE, CENTRE])
def test_scale_takes_boxes_of_any_size_up_to_the_field(spec: InputSpec) -> None:
    field = np.array(kept_box(ramp(), spec))
    size = field[2:] - field[:2]
    observed = boxes(Distortion(random_scale=50), spec)
    enlarged = size / (observed[:, 2:] - observed[:, :2])
    assert np.abs(enlarged[:, 0] - enlarged[:, 1]).max() < 0.03
    assert_uniform(enlarged[:, 0], 1, 1.5)
    assert (observed[:, :2] > field[:2] - 0.6).all()
    assert (observed[:, 2:] < field[2:] + 0.6).all()
    roomy = observed[enlarged[:, 0] > 1.2]
    spare = size - (roomy[:, 2:] - roomy[:, :2])
    for place in ((roomy[:, :2] - field[:2]) / spare).T:
        assert place.min() < 0.1
        assert place.max() > 0.9


def test_crop_and_scale_multiply() -> None:
    observed = boxes(Distortion(random_crop=20, random_scale=30), WHOLE)
    assert_uniform(240 / (observed[:, 2] - observed[:, 0]), 1.2, 1.2 * 1.3)


def test_brightness_multiplies_up_and_down_by_as_much() -> None:
    observed = views(grey(100), WHOLE, Distortion(random_brightness=30)).reshape(400, -1)
    assert (observed.min(axis=1) == observed.max(axis=1)).all()
    assert observed.min() >= 70
    assert observed.max() <= 130
    assert_uniform(observed[:, 0].astype(float), 70, 130)


def test_brightness_is_rounded_and_clipped_to_a_byte() -> None:
    dim = views(grey(100), WHOLE, Distortion(random_brightness=30)).reshape(400, -1)[:, 0]
    bright = views(grey(250), WHOLE, Distortion(random_brightness=30)).reshape(400, -1)[:, 0]
    # The factor is known from the dim photo to half a step, 0.005.
    assert np.abs(bright - np.minimum(2.5 * dim, 255)).max() <= 2
    assert (bright[dim > 103] == 255).all()
    assert (dim > 103).sum() > 100
    slight = views(grey(100), WHOLE, Distortion(random_brightness=1)).reshape(400, -1)[:, 0]
    assert np.bincount(slight)[99:].tolist() == pytest.approx([100, 200, 100], abs=35)


def contrasts(distortion: Distortion) -> npt.NDArray[np.float64]:
    """Return the factors of contrast by which views of a photo of two greys are changed."""
    image = Image.new("RGB", (60, 40), (75, 75, 75))
    image.paste((125, 125, 125), (30, 0, 60, 40))
    observed = views(image, WHOLE, distortion).astype(float)
    left, right = observed[:, 0, 0, 0], observed[:, 0, -1, 0]
    assert np.abs((left + right) / 2 - 100).max() <= 1
    factors: npt.NDArray[np.float64] = (right - left) / 50
    return factors


def saturations(distortion: Distortion) -> npt.NDArray[np.float64]:
    """Return the factors of saturation by which views of a photo of one colour are changed."""
    image = Image.new("RGB", (60, 40), (140, 100, 70))
    grey_of_image = float(image.convert("L").getpixel((0, 0)))  # type: ignore[arg-type]
    observed = views(image, WHOLE, distortion)[:, 0, 0].astype(float)
    assert np.abs(observed @ [0.299, 0.587, 0.114] - grey_of_image).max() <= 1
    factors: npt.NDArray[np.float64] = (observed[:, 0] - observed[:, 2]) / 70
    return factors


def test_contrast_multiplies_the_distance_from_the_mean_grey() -> None:
    assert_uniform(contrasts(Distortion(random_contrast=30)), 0.7, 1.3)
    assert_uniform(contrasts(Distortion(random_contrast=100)), 0, 2)


def test_saturation_multiplies_the_distance_from_each_grey() -> None:
    assert_uniform(saturations(Distortion(random_saturation=30)), 0.7, 1.3)
    assert_uniform(saturations(Distortion(random_saturation=100)), 0, 2)


COLOURS = Distortion(random_brightness=20, random_contrast=20, random_saturation=20)


def test_contrast_and_saturation_leave_a_grey_photo() -> None:
    lit = views(grey(100), WHOLE, Distortion(random_brightness=20))
    assert np.array_equal(views(grey(100), WHOLE, COLOURS), lit)


def test_colours_change_as_by_pillow() -> None:
    pixels = np.random.default_rng(0).integers(60, 180, (4, 5, 3)).astype(np.uint8)
    photo = Image.fromarray(pixels).resize((48, 32), Image.Resampling.NEAREST)
    lights = views(grey(100), WHOLE, COLOURS)[:, 0, 0, 0] / 100
    spreads = contrasts(Distortion(random_contrast=20))
    strengths = saturations(Distortion(random_saturation=20))
    observed = views(photo, WHOLE, COLOURS).astype(int)
    for view, light, spread, strength in zip(observed, lights, spreads, strengths, strict=True):
        expected = ImageEnhance.Brightness(photo).enhance(light)
        expected = ImageEnhance.Contrast(expected).enhance(spread)
        expected = ImageEnhance.Color(expected).enhance(strength)
        # The factors are known to 0.02, and Pillow rounds down after each step.
        assert np.abs(view - np.asarray(expected, int)).mean() < 3


ALL = Distortion(True, 20, 20, 20)


def test_digest_and_view_decide_a_view_and_nothing_else_does() -> None:
    image = noise()
    first = distort(image, CENTRE, ALL, DIGESTS[0], 0)
    distort(image, CENTRE, ALL, DIGESTS[1], 0)
    assert np.array_equal(distort(image, CENTRE, ALL, DIGESTS[0], 0), first)
    different = [
        distort(image, CENTRE, ALL, DIGESTS[1], 0),
        distort(image, CENTRE, ALL, DIGESTS[0], 1),
        distort(image, CENTRE, ALL, DIGESTS[0], 11),
    ]
    assert len({pixels.tobytes() for pixels in [first, *different]}) == 4


def test_the_views_of_one_photo_differ_as_those_of_many_do() -> None:
    pixels = [
        distort(grey(100), WHOLE, Distortion(random_brightness=30), DIGESTS[0], view)[0, 0, 0, 0]
        for view in range(400)
    ]
    assert_uniform(np.array(pixels, float), 70, 130)


def test_one_option_leaves_the_draws_of_another() -> None:
    flips = views(ramp(), WHOLE, Distortion(flip_left_right=True))
    both = views(ramp(), WHOLE, Distortion(flip_left_right=True, random_crop=50))
    for flipped, cropped in zip(flips, both, strict=True):
        assert (flipped[0, 0, 0] > flipped[0, -1, 0]) == (cropped[0, 0, 0] > cropped[0, -1, 0])


def test_one_draw_tells_nothing_of_another() -> None:
    cropped = boxes(Distortion(random_crop=50), WHOLE)
    scaled = boxes(Distortion(random_scale=50), WHOLE)
    flipped = views(ramp(), WHOLE, Distortion(flip_left_right=True))
    lit = views(grey(100), WHOLE, Distortion(random_brightness=30))
    across, down = cropped[:, 0], cropped[:, 1]
    size, mirrored, light = scaled[:, 2] - scaled[:, 0], flipped[:, 0, 0, 0] > 120, lit[:, 0, 0, 0]
    spread = contrasts(Distortion(random_contrast=30))
    strength = saturations(Distortion(random_saturation=30))
    shared = np.corrcoef([across, down, size, mirrored, light, spread, strength]) - np.eye(7)
    assert np.abs(shared).max() < 0.15


def test_these_pixels_are_of_the_rules_that_have_this_name() -> None:
    """Whoever changes a pixel changes the name, or views of the old rules pass for new ones."""
    observed = views(ramp(), WHOLE, ALL)[:4]
    ends = np.concatenate([observed[:, 0, [0, -1], 0], observed[:, [0, -1], 0, 1]], axis=1)
    pinned = [[235, 29, 54, 225], [255, 46, 7, 184], [181, 6, 22, 167], [42, 235, 55, 213]]
    assert (RULES, ends.tolist()) == ("distort-2", pinned)
    coloured = views(ramp(), WHOLE, replace(ALL, random_contrast=20, random_saturation=20))[:4]
    pinned = [[218, 61, 15], [255, 3, 0], [189, 21, 0], [55, 66, 14]]
    assert np.abs(coloured[:, 0, 0].astype(int) - pinned).max() <= 1  # of float32 on any processor


NAMES = [
    "random_crop", "random_scale", "random_brightness", "random_contrast", "random_saturation"
]  # fmt: skip


@pytest.mark.parametrize("percentage", [-1, 101, 120])
@pytest.mark.parametrize("name", NAMES)
def test_percentages_out_of_range_are_refused_by_name(name: str, percentage: int) -> None:
    options: dict[str, Any] = {name: percentage}
    with pytest.raises(WrongUse, match=rf"^`{name}`: must be .* 0\.\.100, not {percentage}$"):
        Distortion(**options)


@pytest.mark.parametrize("percentage", [1, 100])
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_range_is_allowed(name: str, percentage: int) -> None:
    options: dict[str, Any] = {name: percentage}
    assert distort(noise(), CENTRE, Distortion(**options), DIGESTS[0], 0).shape == (1, 32, 48, 3)


@pytest.mark.parametrize("spec", [WHOLE, CENTRE])
def test_a_blanked_centre_leaves_the_border_as_it_is(spec: InputSpec) -> None:
    image = noise()
    whole = to_pixels(image, spec)[0]
    view = distort(image, spec, Distortion(blank_centre=50), DIGESTS[0], 1)[0]
    inside = np.zeros((32, 48), bool)
    inside[8:24, 12:36] = True
    assert (view[inside] == 128).all()
    assert np.array_equal(view[~inside], whole[~inside])
