"""What TensorBoard reads of a run: each test asks TensorBoard's own code."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from tensorboard.util.tensor_util import make_ndarray
from werkzeug.test import Client

from retrain.training import tensorboard as module
from retrain.training.tensorboard import MAX_POINTS, THUMBNAIL, Events, events

RANDOM = np.random.default_rng(0)


def board(folder: Path, name: str) -> Any:
    """Return TensorBoard's reader of the one run in `folder`."""
    (found,) = folder.glob(f"*/{name}")
    return EventAccumulator(str(found)).Reload()


def tensors(reader: Any, tag: str) -> dict[int, Any]:
    return {event.step: make_ndarray(event.tensor_proto) for event in reader.Tensors(tag)}


def plugin_of(reader: Any, tag: str) -> str:
    return str(reader.SummaryMetadata(tag).plugin_data.plugin_name)


def test_curves_of_both_sides_are_read_back(tmp_path: Path) -> None:
    with events(tmp_path) as opened:
        opened.evaluation(0, (0.25, 1.5), (0.125, 2.5), 0.01)
        opened.evaluation(10, (0.75, 0.5), (0.5, 1.25), 0.005)
    train, validation = board(tmp_path, "train"), board(tmp_path, "validation")
    assert tensors(train, "accuracy") == {0: 0.25, 10: 0.75}
    assert tensors(train, "cross_entropy") == {0: 1.5, 10: 0.5}
    assert tensors(train, "learning_rate") == {0: np.float32(0.01), 10: np.float32(0.005)}
    assert tensors(validation, "accuracy") == {0: 0.125, 10: 0.5}
    assert tensors(validation, "cross_entropy") == {0: 2.5, 10: 1.25}
    assert set(validation.Tags()["tensors"]) == {"accuracy", "cross_entropy"}
    assert plugin_of(train, "accuracy") == "scalars"


def test_the_final_layer_is_shown_as_it_spreads(tmp_path: Path) -> None:
    layer = {
        "weights": RANDOM.normal(1, 2, (64, 3)).astype(np.float32),
        "biases": np.array([-1, 0, 4], np.float32),
        "logits": RANDOM.normal(0, 9, (20, 3)).astype(np.float32),
    }
    with events(tmp_path) as opened:
        opened.layer(7, *layer.values())
    reader = board(tmp_path, "train")
    for name, values in layer.items():
        tag = f"final_layer/{name}"
        buckets = tensors(reader, tag)[7]
        assert plugin_of(reader, tag) == "histograms"
        assert buckets.shape == (30, 3)
        assert (buckets[0, 0], buckets[-1, 1]) == pytest.approx((values.min(), values.max()))
        assert buckets[:, 2].sum() == values.size
        for left, right, count in buckets[:-1]:
            assert count == ((values >= left) & (values < right)).sum()
    for name in ("weights", "biases"):
        values = layer[name]
        for statistic, expected in {
            "mean": values.mean(), "stddev": values.std(), "min": values.min(), "max": values.max(),
        }.items():  # fmt: skip
            assert tensors(reader, f"final_layer/{name}/{statistic}") == {7: expected}
    assert "final_layer/logits/mean" not in reader.Tags()["tensors"]


@pytest.mark.parametrize(
    ("values", "counted"),
    [([1, np.nan, np.inf, 2], 2), ([np.nan] * 4, 0), ([3] * 4, 4), ([1, 1 + 2**-23], 2)],
)
def test_layers_that_went_wrong_are_shown_too(
    tmp_path: Path, values: list[float], counted: int
) -> None:
    layer = np.array(values, np.float32)
    with events(tmp_path) as opened:
        opened.layer(0, layer[np.newaxis], layer, layer[np.newaxis])
    reader = board(tmp_path, "train")
    assert tensors(reader, "final_layer/weights")[0][:, 2].sum() == counted


def confusion(folder: Path, matrix: npt.NDArray[np.int64], labels: list[str]) -> Image.Image:
    """Return the picture that TensorBoard has of `matrix`."""
    with events(folder) as opened:
        opened.confusion(5, matrix, labels)
    reader = board(folder, "test")
    width, height, png = tensors(reader, "confusion_matrix")[5]
    assert plugin_of(reader, "confusion_matrix") == "images"
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.size) == ("PNG", (int(width), int(height)))
    return picture.convert("RGB")


def where(picture: Image.Image, share: float) -> tuple[float, float, int]:
    """Return the mean row and column of the pixels as dark as `share`, and how many they are."""
    dark = np.rint(255 - share * (255 - np.array((8, 48, 107))))
    rows, columns = np.nonzero((np.asarray(picture) == dark).all(axis=2))
    return float(rows.mean()), float(columns.mean()), len(rows)


def test_confusion_is_shaded_by_the_share_of_the_row(tmp_path: Path) -> None:
    matrix = np.array([[8, 0, 2], [0, 0, 0], [30, 10, 60]])
    picture = confusion(tmp_path, matrix, ["ape", "bee", "cow"])
    y, x, _ = where(picture, 0.8)
    for share, row, column in ((0.2, 0, 2), (0.3, 2, 0), (0.1, 2, 1), (0.6, 2, 2)):
        down, right, pixels = where(picture, share)
        assert (down - y, right - x) == pytest.approx((96 * row, 96 * column), abs=4)
        assert 0.9 * 96**2 < pixels <= 96**2


@pytest.mark.parametrize(("classes", "counted"), [(20, True), (21, False)])
def test_counts_are_written_where_cells_have_room(
    tmp_path: Path, classes: int, counted: bool
) -> None:
    once = np.eye(classes, dtype=np.int64)
    labels = [str(i) for i in range(classes)]
    pictures = [confusion(tmp_path / str(n), n * once, labels) for n in (1, 8)]
    assert (pictures[0] != pictures[1]) == counted


def test_names_are_at_the_side_and_below(tmp_path: Path) -> None:
    matrix = np.eye(2, dtype=np.int64)
    one, other = (
        np.asarray(confusion(tmp_path / name, matrix, ["same", name])) for name in ("dog", "cow")
    )
    rows, columns = np.nonzero((one != other).any(axis=2))
    y, x, _ = where(Image.fromarray(one), 1)
    beside = columns < x - 96
    below = rows > y + 96
    assert beside.any()
    assert (rows[beside] > y).all()
    assert below.any()
    assert (columns[below] > x).all()
    assert (beside ^ below).all()


def test_a_long_name_is_shown_by_its_beginning(tmp_path: Path) -> None:
    matrix = np.eye(2, dtype=np.int64)
    names = ("rose", "i" * 32 + "dog", "i" * 32 + "cow")
    short, *long = (confusion(tmp_path / name, matrix, ["same", name]) for name in names)
    assert long[0] == long[1] != short


@pytest.mark.parametrize("classes", [2, 60, 1000, 2500])
def test_a_picture_of_any_labels_is_small_enough(tmp_path: Path, classes: int) -> None:
    odd = ["żółw ☀", "猫", "مرحبا", "\t", "two\nlines", "x" * 500, "a\x00b", "😀" * 40]
    labels = [f"{odd[i % len(odd)]}{i}" for i in range(classes)]
    picture = confusion(tmp_path, np.eye(classes, dtype=np.int64), labels)
    assert max(picture.size) <= 2048


class Projector:
    """TensorBoard's projector plugin, served from `folder`."""

    def __init__(self, folder: Path) -> None:
        runs = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
        provider = MultiplexerDataProvider(runs, str(folder))
        context = TBContext(logdir=str(folder), data_provider=provider)
        self._apps = ProjectorPlugin(context).get_plugin_apps()
        (self._run,) = json.loads(self._get("/runs"))

    def get(self, route: str) -> bytes:
        """Return what a browser gets of the embedding."""
        return self._get(f"{route}?run={self._run}&name=bottlenecks")

    def _get(self, address: str) -> bytes:
        response = Client(self._apps[address.partition("?")[0]]).get(address)
        assert response.status_code == 200, response.text
        return bytes(response.data)


def squares(count: int, side: int = THUMBNAIL) -> list[Image.Image]:
    """Return pictures that are black on the left, and on the right each of its own colour."""
    pictures = [Image.new("RGB", (side, side)) for _ in range(count)]
    for i, picture in enumerate(pictures):
        picture.paste((i, 255 - i, 7), (side // 2, 0, side, side))
    return pictures


TEXT = float(np.frombuffer(b"a\nb\n", "<f4")[0])
"""A value whose bytes begin with a line of text, which is no number."""


@pytest.mark.parametrize("first", [0.0, 0.7, TEXT])
def test_the_projector_serves_points_labels_and_thumbnails(tmp_path: Path, first: float) -> None:
    points = np.concatenate([np.zeros((2, 4)), RANDOM.random((5, 4))]).astype(np.float32)
    points[0, 0] = first
    labels = ["żółw ☀", "tab\there", "two\r\nlines", "", " ", "last", "last"]
    with events(tmp_path) as opened:
        opened.projector(points.astype(np.float64), labels, squares(7, side=96))
    projector = Projector(tmp_path)
    (embedding,) = json.loads(projector.get("/info"))["embeddings"]
    assert embedding["tensorShape"] == [7, 4]
    assert embedding["sprite"]["singleImageDim"] == [THUMBNAIL, THUMBNAIL]
    served = np.frombuffer(projector.get("/tensor"), np.float32).reshape(7, 4)
    np.testing.assert_allclose(served[0, 0], points[0, 0], rtol=2**-15, atol=1e-42)
    np.testing.assert_array_equal(served.flat[1:], points.flat[1:])
    lines = projector.get("/metadata").decode().split("\n")
    assert lines == ["żółw ☀", "tab here", "two lines", "?", "?", "last", "last", ""]
    sprite = Image.open(io.BytesIO(projector.get("/sprite_image")))
    assert (sprite.format, sprite.size) == ("PNG", (3 * THUMBNAIL, 3 * THUMBNAIL))
    for i in range(7):
        left, top = i % 3 * THUMBNAIL, i // 3 * THUMBNAIL
        assert sprite.getpixel((left + 4, top + 4)) == (0, 0, 0)
        assert sprite.getpixel((left + THUMBNAIL - 4, top + THUMBNAIL - 4)) == (i, 255 - i, 7)


def test_the_projectors_files_are_there_before_it_can_see_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[str] = []

    class Watched(module._EventFile):
        def __init__(self, folder: Path) -> None:
            there.extend(path.name for path in folder.iterdir())
            super().__init__(folder)

    monkeypatch.setattr(module, "_EventFile", Watched)
    with events(tmp_path) as opened:
        opened.projector(np.ones((1, 2), np.float32), ["a"], squares(1))
    assert set(there) == {
        "bottlenecks.bytes", "labels.tsv", "sprite.png", "projector_config.pbtxt",
    }  # fmt: skip


def test_as_many_points_fit_as_promised_in_a_texture_of_8192(tmp_path: Path) -> None:
    with events(tmp_path) as opened:
        opened.projector(np.ones((MAX_POINTS, 2)), ["a"] * MAX_POINTS, squares(1) * MAX_POINTS)
    (sprite,) = tmp_path.glob("*/test/sprite.png")
    with Image.open(sprite) as picture:
        assert max(picture.size) <= 8192


@pytest.mark.parametrize(
    ("points", "labels", "thumbnails"),
    [(MAX_POINTS + 1,) * 3, (0, 0, 0), (3, 2, 3), (3, 3, 2), (2, 3, 3)],
)
def test_points_that_are_too_many_or_incomplete_are_refused(
    tmp_path: Path, points: int, labels: int, thumbnails: int
) -> None:
    with events(tmp_path) as opened, pytest.raises(ValueError, match=f"expected 1 to {MAX_POINTS}"):
        opened.projector(np.ones((points, 2)), ["a"] * labels, squares(1) * thumbnails)
    assert not list(tmp_path.glob("*/test"))


def test_runs_of_the_same_microsecond_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2024, 5, 6, 7, 8, 9, 10, UTC)
    times = [start, start, start + timedelta(microseconds=1)]
    monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda _: times.pop(0)))
    runs = [Events(tmp_path / "new" / "folder").run for _ in range(2)]
    assert [run.name for run in runs] == ["20240506-070809-000010", "20240506-070809-000011"]
    assert all(run.is_dir() for run in runs)


def test_an_open_run_can_be_watched(tmp_path: Path) -> None:
    with events(tmp_path) as opened:
        opened.evaluation(3, (0.5, 1.0), (0.5, 1.0), 0.01)
        assert tensors(board(tmp_path, "validation"), "accuracy") == {3: 0.5}


def test_files_are_closed_when_training_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with events(tmp_path) as opened:
            kept.append(opened)
            opened.evaluation(3, (0.5, 1.0), (0.5, 1.0), 0.01)
            raise ZeroDivisionError

    kept: list[Events] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert tensors(board(tmp_path, "train"), "accuracy") == {3: 0.5}
    with pytest.raises(ValueError, match="closed file"):
        kept[0].evaluation(4, (0.5, 1.0), (0.5, 1.0), 0.01)


def test_nothing_of_it_loads_tensorflow(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from retrain.training.tensorboard import events
ones = np.ones((2, 2), np.float32)
with events(Path(sys.argv[1])) as opened:
    opened.evaluation(0, (0, 0), (0, 0), 0)
    opened.layer(0, ones, ones[0], ones)
    opened.projector(ones, ["a", "b"], [Image.new("RGB", (9, 9))] * 2)
    opened.confusion(0, np.eye(2, dtype=int), ["a", "b"])
print("tensorboard" in sys.modules, "tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]
    assert len(list(tmp_path.glob("*/*/*tfevents*"))) == 3
