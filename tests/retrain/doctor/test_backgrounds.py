"""A class before a background of its own is named; classes before the same one are not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retrain.doctor import backgrounds
from retrain.doctor.examination import Examination
from retrain.doctor.examine import load
from retrain.doctor.finding import Finding
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings
from tests.helpers.doctor_fixtures import labelled_photos

QUIET = Progress(verbosity="ERROR")
PER_LABEL = 20


Frame = tuple[int, int, int] | None


def draw_photo(shape: str, frame: Frame, random: np.random.Generator) -> Image.Image:
    """Return a shape in the middle of a photo of coarse noise, within a frame, if there is one."""
    coarse = Image.fromarray(random.integers(40, 200, (5, 5, 3), dtype=np.uint8))
    image = coarse.resize((160, 160), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    box = (55, 55, 105, 105)
    fill = tuple(int(level) for level in random.integers(0, 256, 3))
    pen.ellipse(box, fill) if shape == "disc" else pen.rectangle(box, fill)
    if frame:
        pen.rectangle((0, 0, 159, 159), outline=frame, width=24)
    return image


def draw_classes(root: Path, frames: dict[str, Frame], counts: Sequence[int] = ()) -> None:
    random = np.random.default_rng(0)
    counts = counts or [PER_LABEL] * len(frames)
    for (label, frame), count in zip(frames.items(), counts, strict=True):
        (root / label).mkdir(parents=True)
        for number in range(count):
            shape = "disc" if label == "disc" else "square"
            draw_photo(shape, frame, random).save(root / label / f"{number}.png")


@pytest.fixture
def source(tmp_path: Path, cache_dir: Path) -> Source:
    return Source(tmp_path / "photos", cache_dir=cache_dir, bottleneck_dir=tmp_path / "bottlenecks")


def find(source: Source, progress: Progress = QUIET) -> list[Finding]:
    data = load(source, SplitSettings(), QUIET)
    return list(backgrounds.find(Examination(data, source, progress)))


def test_a_class_in_a_frame_of_its_own_is_named_with_its_photos(source: Source) -> None:
    frames: dict[str, Frame] = {"disc": None, "framed": (30, 60, 200), "square": None}
    draw_classes(Path(source.image_dir), frames)
    (finding,) = find(source)
    assert finding.kind == "background"
    assert finding.title.startswith("framed ")
    assert {photo.label for photo in finding.photos} == {"framed"}
    assert len(finding.photos) >= 18
    assert finding.suggested == 0


@pytest.mark.parametrize("framed", ["disc", "square"])
def test_two_classes_have_one_finding_that_names_both(source: Source, framed: str) -> None:
    frames: dict[str, Frame] = {
        label: (30, 60, 200) if label == framed else None for label in ("disc", "square")
    }
    draw_classes(Path(source.image_dir), frames)
    (finding,) = find(source)
    other = "square" if framed == "disc" else "disc"
    assert finding.title.startswith(f"{framed} and {other} ")
    assert "either class may be the reason" in finding.reason
    assert f"those of {framed} are more alike" in finding.reason
    assert [photo.label for photo in finding.photos[:2]] == [framed, other]


def test_classes_before_the_same_background_are_not_named_and_borders_are_cached(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_classes(Path(source.image_dir), {"disc": None, "square": None})
    assert find(source, Progress()) == []
    assert "engine" in capsys.readouterr().err, "the borders are analysed"
    assert find(source, Progress()) == []
    assert "engine" not in capsys.readouterr().err, "they come from the cache"


def test_a_frequent_class_is_not_named_for_being_frequent(source: Source) -> None:
    """A head that always names it has an F1 of 0.93."""
    draw_classes(Path(source.image_dir), {"usual": None, "rare": None}, (70, 10))
    assert find(source) == []


def test_no_class_is_more_than_half_of_the_sample() -> None:
    photos = labelled_photos(["cat"] * 90 + ["dog"] * 7 + ["owl"] * 5)
    labels = [photo.label for photo in backgrounds._without_majority(photos)]
    assert [labels.count(label) for label in ("cat", "dog", "owl")] == [12, 7, 5]
    assert len(backgrounds._without_majority(photos[80:])) == 22


@pytest.mark.parametrize(
    ("share", "least", "loss"), [(0.05, 0.85, 0.05), (0.2, 0.85, 0.05), (0.5, 0.925, 0.025)]
)
def test_a_larger_class_needs_a_higher_f1(share: float, least: float, loss: float) -> None:
    assert backgrounds._least_f1(share) == pytest.approx(least)
    assert backgrounds._max_loss(share) == pytest.approx(loss)


def test_copies_of_a_photo_do_not_make_its_border_known(source: Source) -> None:
    random = np.random.default_rng(0)
    for label in ("disc", "square"):
        (Path(source.image_dir) / label).mkdir(parents=True)
        for number in range(4):
            path = Path(source.image_dir) / label / f"{number}.png"
            draw_photo(label, None, random).save(path)
            for copy in range(4):  # other bytes, behind the end of the picture
                content = path.read_bytes() + bytes([copy])
                path.with_name(f"{number}-{copy}.png").write_bytes(content)
    assert find(source) == []
