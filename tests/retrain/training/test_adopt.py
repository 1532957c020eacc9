"""Test `retrain adopt`: a run of a frozen classifier, without training."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from deploy.contract import Contract
from retrain.cli import commands as laptop
from retrain.data.manifest import read_manifest
from retrain.quantization import quantize
from tests.helpers.classic_graphs import (
    LABELS,
    SIDE,
    Style,
    hub,
    inception,
    mobilenet,
    of_another_program,
    quantized_hub,
    save,
    tf,
    tiny,
    write_labels,
)
from tests.helpers.deploy_fixtures import networks, write_colour_run
from tests.helpers.label_fixtures import assert_failed, label
from tests.helpers.report_pages import Page
from tests.helpers.runs import Invoke


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of nine photos of each label. Not to be changed."""
    root = tmp_path_factory.mktemp("colours")
    write_colour_run(root)
    return root / "photos"


class Adopt:
    """Runs `retrain adopt` on a graph, in a folder of its own."""

    def __init__(self, invoke: Invoke, photos: Path, cache_dir: Path, folder: Path) -> None:
        self.run = folder / "run"
        self.photos = photos
        self.graph = folder / "retrained_graph.pb"
        self.labels = write_labels(folder / "retrained_labels.txt")
        self._invoke, self._cache = invoke, cache_dir

    def __call__(self, graph_def: Any, *options: object) -> Result:
        """Return the result for `graph_def`."""
        save(graph_def, self.graph)
        where = ("--cache-dir", self._cache, "--output-dir", self.run)
        return self._invoke("adopt", self.graph, self.labels, self.photos, *where, *options)


@pytest.fixture
def adopt(invoke: Invoke, photos: Path, cache_dir: Path, tmp_path: Path) -> Adopt:
    return Adopt(invoke, photos, cache_dir, tmp_path)


@pytest.mark.parametrize("style", [inception, mobilenet, hub, quantized_hub])
def test_the_run_gives_what_the_graph_gave(style: Style, adopt: Adopt, tmp_path: Path) -> None:
    result = adopt(tiny(style))
    assert result.exit_code == 0, result.output
    photo = adopt.photos / "blue" / "0.png"
    scores = []
    for where in ((adopt.graph, "--labels", adopt.labels), (adopt.run / "output_graph.pb",)):
        shown = label(laptop, photo, "--json", "--graph", *where)
        assert shown.exit_code == 0, shown.output
        scores.append(json.loads(shown.stdout))
    assert scores[0]["labels"] == scores[1]["labels"]
    assert scores[0]["scores"] == pytest.approx(scores[1]["scores"], abs=1e-5)
    assert ("fake quantization" in result.stderr) == (style is quantized_hub)
    assert not list(tmp_path.glob("*.part"))


def test_the_run_is_one_as_train_writes_it(
    adopt: Adopt, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "run_isolated", lambda _what, _seconds, body, *rest: body(*rest))
    result = adopt(tiny(hub))
    assert "which photos this graph was trained on is not known" in result.stderr
    contract = Contract.from_json((adopt.run / "contract.json").read_bytes())
    assert contract.labels == LABELS
    assert (contract.input.mean, contract.input.std, contract.temperature) == (0, 255, 1)
    metrics = json.loads((adopt.run / "metrics.json").read_text("utf-8"))
    splits = [name for _, name in read_manifest(adopt.run / "manifest.csv")]
    assert metrics["split"] == {name: splits.count(name) for name in set(splits)}
    assert metrics["test"]["total"] == splits.count("testing") > splits.count("training") > 0
    assert metrics["test"]["right"] == metrics["test"]["total"]
    assert any("not known" in warning for warning in metrics["warnings"])
    options = ("--output-dir", adopt.run)
    result = invoke("convert", *options, "--quantize", "float32", "--goldens", 2)
    assert result.exit_code == 0, result.output
    assert "the same best label on 100.0%" in result.stdout
    result = invoke("summary", *options)
    assert "seconds, adopt:" in result.stdout
    assert invoke("bundle", *options).exit_code == 0
    result = label(laptop, adopt.photos / "red", "--model", adopt.run / "model.tflite")
    assert result.stdout.count("red\n") >= 9


def test_the_page_shows_an_adopted_graph(adopt: Adopt, invoke: Invoke) -> None:
    assert adopt(tiny(inception)).exit_code == 0
    result = invoke("report", "--output-dir", adopt.run)
    assert result.exit_code == 0, result.output
    page = Page.read(adopt.run)
    total = len(page.gallery("Test photos"))
    assert [title.text for title in page.named("h1")] == [f"All {total} test photos right"]
    assert "There are no curves: this run has not been trained here." in page.html
    assert "Fine-tune the network" not in page.html
    assert not (adopt.run / "learning_curve.json").exists()


@pytest.mark.parametrize("has_own_split", [False, True])
def test_photos_of_an_adopted_graph_are_examined_once(
    has_own_split: bool,
    adopt: Adopt,
    photos: Path,
    invoke: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Findings have the labels of the graph; a folder without a label has none."""
    adopt.photos = tmp_path / "renamed"
    for name, folder in (("Red", "red"), ("BLUE_", "blue"), ("none", "grey")):
        for i, path in enumerate(sorted((photos / folder).iterdir())):
            where = ("train", "valid", "test")[i % 3] if has_own_split else ""
            target = adopt.photos / where / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            if folder != "blue" and i == 0:
                shutil.copy(path, target / "copy.png")
    assert adopt(tiny(hub)).exit_code == 0
    result = invoke("report", "--output-dir", adopt.run)
    assert result.exit_code == 0, result.output
    record = json.loads((adopt.run / "doctor.json").read_text("utf-8"))
    copies = [finding for finding in record["findings"] if finding["kind"] == "exact-copy"]
    assert [photo["label"] for finding in copies for photo in finding["photos"]] == ["red"]
    shown = json.loads(invoke("doctor", adopt.run, "--json").stdout)
    assert shown == record
    monkeypatch.setattr("retrain.doctor.examine.load", None)
    assert invoke("report", "--output-dir", adopt.run).exit_code == 0


def test_the_level_of_the_folders_of_labels_is_an_option(
    adopt: Adopt, photos: Path, tmp_path: Path
) -> None:
    adopt.photos = tmp_path / "cameras"
    for folder in photos.iterdir():
        for i, path in enumerate(sorted(folder.iterdir())):
            target = adopt.photos / ("cam1", "cam2")[i % 2] / folder.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    assert_failed(adopt(tiny(mobilenet)), 3, "cam1, cam2", "--labels-from")
    result = adopt(tiny(mobilenet), "--labels-from", 2)
    assert result.exit_code == 0, result.output
    assert {photo.label for photo, _ in read_manifest(adopt.run / "manifest.csv")} == set(LABELS)


def no_softmax(logits: Any, name: str) -> None:
    tf.identity(logits, name=name)


def test_logits_get_a_softmax(adopt: Adopt) -> None:
    graph_def = tiny(mobilenet, final="scores", softmax=no_softmax)
    assert_failed(adopt(graph_def), 2, str(adopt.graph), "--output-layer", "scores")
    result = adopt(graph_def, "--output-layer", "scores")
    assert result.exit_code == 0, result.output
    assert "scores:0 are logits" in result.stderr
    result = label(laptop, adopt.photos / "red" / "0.png", "--graph", adopt.run / "output_graph.pb")
    scores = [float(line.split("%")[0]) for line in result.stdout.splitlines()[1:]]
    assert sum(scores) == pytest.approx(100, abs=0.3)


def test_scores_of_a_label_each_are_refused(adopt: Adopt) -> None:
    result = adopt(tiny(mobilenet, softmax=tf.sigmoid))
    assert_failed(result, 3, str(adopt.graph), "Sigmoid", "--output-layer")


def unscaled() -> Any:
    """Return a classifier of another program: a convolution, a softmax in another shape."""

    def head(mean: Any) -> None:
        kernel = tf.constant([[[[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0]]]])
        logits = tf.squeeze(tf.nn.conv2d(mean, kernel, 1, "SAME"), [1, 2])
        tf.reshape(tf.nn.softmax(logits), [-1, 4], name="Predictions")

    return of_another_program(head)


def test_a_graph_of_another_program_needs_its_scale(adopt: Adopt) -> None:
    result = adopt(unscaled())
    assert_failed(result, 2, str(adopt.graph), "set --input-mean, --input-std")
    result = adopt(unscaled(), "--input-mean", 128, "--input-std", 128)
    assert result.exit_code == 0, result.output
    metrics = json.loads((adopt.run / "metrics.json").read_text("utf-8"))
    assert metrics["test"]["per_class"]["red"]["recall"] == 1


def test_labels_that_are_not_those_of_the_graph_are_named(adopt: Adopt) -> None:
    write_labels(adopt.labels, LABELS[:3])
    assert_failed(adopt(tiny(hub)), 3, str(adopt.labels), "3 labels", "4 outputs")
    write_labels(adopt.labels, ("red", "blue", "red", "grey"))
    assert_failed(adopt(tiny(hub)), 3, str(adopt.labels), "red", "lines 1, 3")
    write_labels(adopt.labels, ("a", "b", "c", "d"))
    assert_failed(adopt(tiny(hub)), 3, str(adopt.photos), "no class", "grün, hell", "a, b")


def test_what_is_not_a_graph_is_named(adopt: Adopt, invoke: Invoke, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(networks().float32)
    assert_failed(invoke("adopt", model, adopt.labels, adopt.photos), 2, str(model))
    picture = tmp_path / "photo.pb"
    shutil.copy(adopt.photos / "red" / "0.png", picture)
    result = invoke("adopt", picture, adopt.labels, adopt.photos)
    assert_failed(result, 3, str(picture), "not a frozen graph")


def node(graph_def: Any, name: str) -> Any:
    return next(node for node in graph_def.node if node.name == name)


def in_a_circle(graph_def: Any) -> None:
    node(graph_def, "input_1/BottleneckInputPlaceholder").input[0] = (
        "final_training_ops/Wx_plus_b/add"
    )


def of_two_types(graph_def: Any) -> None:
    biases = node(graph_def, "final_training_ops/biases/final_biases")
    biases.attr["value"].tensor.dtype = tf.float64.as_datatype_enum  # which aborts TensorFlow


def without_inputs(graph_def: Any) -> None:
    del node(graph_def, "final_training_ops/weights/final_weights/read").input[:]


@pytest.mark.parametrize("damage", [in_a_circle, of_two_types, without_inputs])
def test_a_damaged_graph_is_bad_data(damage: Callable[[Any], None], adopt: Adopt) -> None:
    graph_def = tiny(mobilenet)
    damage(graph_def)
    ends: list[object] = ["--input-layer", "input", "--input-height", SIDE, "--input-width", SIDE]
    ends += ["--input-mean", 128, "--input-std", 128]
    assert_failed(adopt(graph_def, *ends), 3, str(adopt.graph))
    photo = adopt.photos / "red" / "0.png"
    result = label(laptop, photo, "--graph", adopt.graph, "--labels", adopt.labels, *ends)
    assert_failed(result, 3, str(adopt.graph))


def test_the_graph_itself_is_not_overwritten(adopt: Adopt, invoke: Invoke, tmp_path: Path) -> None:
    path = save(tiny(hub), tmp_path / "output_graph.pb")
    result = invoke("adopt", path, adopt.labels, adopt.photos, "--output-dir", tmp_path)
    assert_failed(result, 2, str(path), "--output-dir")
