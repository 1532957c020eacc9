"""Test a run's events by reading them with TensorBoard's own code."""

import io
import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
from retrain.training.confusion_picture import draw_confusion_matrix
from retrain.training.tensorboard import MAX_POINTS, THUMBNAIL_SIDE, EventWriter

RANDOM = np.random.default_rng(0)


def board(folder: Path, name: str) -> Any:
    """Return TensorBoard's reader of the one run in `folder`."""
    (run,) = folder.glob(f"*/{name}")
    return EventAccumulator(str(run)).Reload()


def tensors(reader: Any, tag: str) -> dict[int, Any]:
    return {event.step: make_ndarray(event.tensor_proto) for event in reader.Tensors(tag)}


def plugin_of(reader: Any, tag: str) -> str:
    return str(reader.SummaryMetadata(tag).plugin_data.plugin_name)


def test_curves_of_both_sides_are_read_back(tmp_path: Path) -> None:
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_scores(0, (0.25, 1.5), (0.125, 2.5), 0.01)
        opened.write_scores(10, (0.75, 0.5), (0.5, 1.25), 0.005)
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
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_layer(7, *layer.values())
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
def test_layers_that_diverged_are_shown_too(
    tmp_path: Path, values: list[float], counted: int
) -> None:
    layer = np.array(values, np.float32)
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_layer(0, layer[np.newaxis], layer, layer[np.newaxis])
    reader = board(tmp_path, "train")
    assert tensors(reader, "final_layer/weights")[0][:, 2].sum() == counted


def test_the_confusion_matrix_is_an_image_with_any_labels(tmp_path: Path) -> None:
    labels = ["żółw ☀", "猫", "مرحبا", "\t", "two\nlines", "x" * 500, "a\x00b", "😀" * 40]
    matrix = np.eye(len(labels), dtype=np.int64)
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_confusion_matrix(5, matrix, labels)
    reader = board(tmp_path, "test")
    width, height, png = tensors(reader, "confusion_matrix")[5]
    assert plugin_of(reader, "confusion_matrix") == "images"
    names = [" ".join(label.split()) or "?" for label in labels]
    expected = draw_confusion_matrix(matrix, names)
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.size) == ("PNG", (int(width), int(height)))
    assert picture.convert("RGB") == expected


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


def squares(count: int, side: int = THUMBNAIL_SIDE) -> list[Image.Image]:
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
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_projector(points.astype(np.float64), labels, squares(7, side=96))
    projector = Projector(tmp_path)
    (embedding,) = json.loads(projector.get("/info"))["embeddings"]
    assert embedding["tensorShape"] == [7, 4]
    assert embedding["sprite"]["singleImageDim"] == [THUMBNAIL_SIDE, THUMBNAIL_SIDE]
    served = np.frombuffer(projector.get("/tensor"), np.float32).reshape(7, 4)
    np.testing.assert_allclose(served[0, 0], points[0, 0], rtol=2**-15, atol=1e-42)
    np.testing.assert_array_equal(served.flat[1:], points.flat[1:])
    lines = projector.get("/metadata").decode().split("\n")
    assert lines == ["żółw ☀", "tab here", "two lines", "?", "?", "last", "last", ""]
    sprite = Image.open(io.BytesIO(projector.get("/sprite_image")))
    assert (sprite.format, sprite.size) == ("PNG", (3 * THUMBNAIL_SIDE, 3 * THUMBNAIL_SIDE))
    for i in range(7):
        left, top = i % 3 * THUMBNAIL_SIDE, i // 3 * THUMBNAIL_SIDE
        assert sprite.getpixel((left + 4, top + 4)) == (0, 0, 0)
        assert sprite.getpixel((left + THUMBNAIL_SIDE - 4, top + THUMBNAIL_SIDE - 4)) == (
            i,
            255 - i,
            7,
        )


def test_the_projectors_files_are_there_before_it_can_see_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    class Watched(module._EventFile):
        def __init__(self, folder: Path) -> None:
            names.extend(path.name for path in folder.iterdir())
            super().__init__(folder)

    monkeypatch.setattr(module, "_EventFile", Watched)
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_projector(np.ones((1, 2), np.float32), ["a"], squares(1))
    assert set(names) == {
        "bottlenecks.bytes", "labels.tsv", "sprite.png", "projector_config.pbtxt",
    }  # fmt: skip


def test_as_many_points_fit_as_promised_in_a_texture_of_8192(tmp_path: Path) -> None:
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_projector(
            np.ones((MAX_POINTS, 2)), ["a"] * MAX_POINTS, squares(1) * MAX_POINTS
        )
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
    with (
        closing(EventWriter(tmp_path)) as opened,
        pytest.raises(ValueError, match=f"expected 1 to {MAX_POINTS}"),
    ):
        opened.write_projector(np.ones((points, 2)), ["a"] * labels, squares(1) * thumbnails)
    assert not list(tmp_path.glob("*/test"))


def test_runs_of_the_same_microsecond_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2024, 5, 6, 7, 8, 9, 10, UTC)
    times = [start, start, start + timedelta(microseconds=1)]
    monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda _: times.pop(0)))
    runs = [EventWriter(tmp_path / "new" / "folder").run for _ in range(2)]
    assert [run.name for run in runs] == ["20240506-070809-000010", "20240506-070809-000011"]
    assert all(run.is_dir() for run in runs)


def test_an_open_run_can_be_watched(tmp_path: Path) -> None:
    with closing(EventWriter(tmp_path)) as opened:
        opened.write_scores(3, (0.5, 1.0), (0.5, 1.0), 0.01)
        assert tensors(board(tmp_path, "validation"), "accuracy") == {3: 0.5}


def test_files_are_closed_when_training_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with closing(EventWriter(tmp_path)) as opened:
            writers.append(opened)
            opened.write_scores(3, (0.5, 1.0), (0.5, 1.0), 0.01)
            raise ZeroDivisionError

    writers: list[EventWriter] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert tensors(board(tmp_path, "train"), "accuracy") == {3: 0.5}
    with pytest.raises(ValueError, match="closed file"):
        writers[0].write_scores(4, (0.5, 1.0), (0.5, 1.0), 0.01)


def test_nothing_of_it_loads_tensorflow(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from contextlib import closing
from retrain.training.tensorboard import EventWriter
ones = np.ones((2, 2), np.float32)
with closing(EventWriter(Path(sys.argv[1]))) as opened:
    opened.write_scores(0, (0, 0), (0, 0), 0)
    opened.write_layer(0, ones, ones[0], ones)
    opened.write_projector(ones, ["a", "b"], [Image.new("RGB", (9, 9))] * 2)
    opened.write_confusion_matrix(0, np.eye(2, dtype=int), ["a", "b"])
print("tensorboard" in sys.modules, "tensorflow" in sys.modules)
"""
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["True", "False"]
    assert len(list(tmp_path.glob("*/*/*tfevents*"))) == 3
