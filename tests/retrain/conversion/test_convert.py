"""The conversion: calibrated on training photos only, a pixel its own byte, and a gate."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert.interpreter import Interpreter

from deploy import files, model_file
from deploy.contract import Contract, InputSpec, read_labels
from deploy.errors import BadData
from retrain import tf_graph
from retrain.conversion.inputs import _balanced
from retrain.data.manifest import read_manifest, write_manifest
from retrain.data.photo import Photo
from retrain.data.photo_pixels import pixels
from retrain.data.photo_table import PhotoTable
from retrain.frozen_graph import FrozenGraph
from retrain.quantization import quantize
from retrain.run_folder import RunFolder
from retrain.settings.conversion import About, Quantization
from retrain.tflite.metadata import attach, describe, extract
from tests.helpers.conversions import tiny_flatbuffer
from tests.helpers.deploy_fixtures import LABELS
from tests.helpers.runs import Invoke

SPEC = InputSpec(height=8, width=8, crop=None, mean=127, std=128)
INT8 = Quantization()
LOOSE = ("--max-accuracy-drop", 100, "--min-agreement", 0, "--max-mean-difference", 1)

ABOUT = About("Żółwie", "Ada", "CC0")


@pytest.fixture
def flatbuffer() -> bytes:
    return tiny_flatbuffer(INT8)


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch, flatbuffer: bytes) -> list[Any]:
    """Return what conversions are calibrated on; each gives the model that is there."""
    recorded: list[Any] = []

    def convert(_graph: FrozenGraph, _how: Quantization, calibration: Any) -> bytes:
        recorded.append(calibration)
        return flatbuffer

    monkeypatch.setattr(quantize, "quantize", convert)
    return recorded


def of_split(run: Path, name: str) -> list[Photo]:
    return [photo for photo, split in read_manifest(run / "manifest.csv") if split == name]


def used(calibration: npt.NDArray[Any], run: Path) -> list[Photo]:
    """Return the photos that `calibration` holds, whatever its first two pixels' values."""
    spec = Contract.from_json((run / "contract.json").read_bytes()).input
    by_pixels = {
        pixels(photo, spec)[0, 1:].tobytes(): photo
        for photo, _ in read_manifest(run / "manifest.csv")
    }
    return [by_pixels[image[1:].tobytes()] for image in calibration]


def test_a_pixel_is_its_byte(converted: Path) -> None:
    flatbuffer = model_file.read(converted / "model.tflite").flatbuffer
    interpreter = Interpreter(model_content=flatbuffer)
    (image,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], tuple(image["shape"])) == (np.uint8, (1, 32, 32, 3))
    assert image["quantization"] == (1 / 128, 128)
    assert (scores["dtype"], tuple(scores["shape"])) == (np.float32, (1, 4))


def test_the_files_tell_of_the_model_that_is_there(converted: Path) -> None:
    result = json.loads((converted / "conversion.json").read_text("utf-8"))
    file = model_file.read(converted / "model.tflite")
    assert file.contract.labels == LABELS
    assert read_labels((converted / "labels.txt").read_text("utf-8")) == file.contract.labels
    assert file.contract.graph_sha256 == result["graph_sha256"]
    assert result["bytes"]["model"] == (converted / "model.tflite").stat().st_size
    assert result["bytes"]["graph"] == (converted / "output_graph.pb").stat().st_size
    assert result["passed"]
    assert result["agreement"] == result["graph"]["accuracy"] == result["model"]["accuracy"] == 1
    assert result["graph"]["total"] == len(of_split(converted, "testing"))
    assert 0 < result["mean_difference"] <= result["max_difference"] < 0.1
    assert list(result["seconds"]) == ["calibration", "convert", "goldens", "score"]
    assert not (converted / "model.rejected.tflite").exists()


def test_calibration_photos_are_of_training_and_of_all_classes_alike(
    run: Path, calibrations: list[Any], invoke: Invoke
) -> None:
    for count in (8, 500):
        result = invoke("convert", "--output-dir", run, "--calibration-images", count)
        assert result.exit_code == 0, result.output
    few, everything = (used(calibration, run) for calibration in calibrations)
    training = of_split(run, "training")
    assert set(few) <= set(training) == set(everything)
    assert set(Counter(photo.label for photo in few).values()) == {2}
    assert len(set(few)) == 8
    assert len(everything) == len(training)
    assert json.loads((run / "conversion.json").read_text())["calibration_images"] == len(training)


def test_calibration_photos_that_a_recipe_does_not_need_are_refused(
    run: Path, invoke: Invoke
) -> None:
    for recipe in ("dynamic", "float16", "float32"):
        options = ("--quantize", recipe, "--calibration-images", 7)
        result = invoke("convert", "--output-dir", run, *options)
        assert result.exit_code == 2
        expected = f"--calibration-images: the recipe {recipe} needs none: leave it out"
        assert expected in result.stderr
    assert not (run / "model.tflite").exists()


def test_a_recipe_without_ranges_reads_no_calibration_photo(
    run: Path, calibrations: list[Any], invoke: Invoke
) -> None:
    options = ("--quantize", "float16", "--max-mean-difference", 0)
    result = invoke("convert", "--output-dir", run, *options)
    assert [len(calibration) for calibration in calibrations] == [0]
    assert json.loads((run / "conversion.json").read_text())["calibration_images"] == 0
    assert result.exit_code == 4
    remedy = result.stderr.partition("Remedy: ")[2].splitlines()[0]
    assert remedy == "another --quantize, or wider bounds if you can live with it"


def test_fewer_photos_than_classes_are_of_random_classes() -> None:
    photos = PhotoTable.of(
        Photo(Path(f"{label}{number}.jpg"), f"{label:03}", bytes(32))
        for label in range(300)
        for number in range(2)
    )
    chosen = [{photo.label for photo in _balanced(photos, 100, seed)} for seed in (0, 1)]
    assert [len(labels) for labels in chosen] == [100, 100]
    assert chosen[0] != chosen[1]


def test_calibration_spans_all_bytes(run: Path, calibrations: list[Any], invoke: Invoke) -> None:
    invoke("convert", "--output-dir", run)
    (calibration,) = calibrations
    assert calibration.dtype == np.uint8
    assert (calibration.min(), calibration.max()) == (0, 255)
    assert calibration[1:].min() > 0
    assert calibration[1:].max() < 255


def test_calibration_hangs_on_the_seed(run: Path, calibrations: list[Any], invoke: Invoke) -> None:
    for seed in (0, 0, 1):
        invoke("convert", "--output-dir", run, "--calibration-images", 6, "--seed", seed)
    first, again, other = (used(calibration, run) for calibration in calibrations)
    assert first == again
    assert set(first) != set(other)


@pytest.mark.usefixtures("calibrations")
def test_the_file_tells_who_made_it_and_has_the_number_of_goldens(
    run: Path, invoke: Invoke
) -> None:
    texts = ("--model-name", "Żółwie", "--author", "Ada", "--license", "CC0")
    for options, about, goldens in (
        ((*texts, "--goldens", 3), ABOUT, 3),
        (("--goldens", 0), About(), 0),
    ):
        result = invoke("convert", "--output-dir", run, *options)
        assert result.exit_code == 0, result.output
        file = model_file.read(run / "model.tflite")
        assert len(file.goldens) == goldens
        assert extract(file.flatbuffer) == describe(file.contract, about, goldens)


def spoiled(flatbuffer: bytes) -> bytes:
    """Return the model with weights and biases of the final layer negated: the worst label wins."""
    interpreter = Interpreter(model_content=flatbuffer)
    for shape in ((4, 6), (4,)):
        (values,) = (
            interpreter.get_tensor(tensor["index"])
            for tensor in interpreter.get_tensor_details()
            if tuple(tensor["shape"]) == shape
        )
        assert flatbuffer.count(values.tobytes()) == 1
        flatbuffer = flatbuffer.replace(values.tobytes(), (-values).tobytes())
    return flatbuffer


def rewritten(flatbuffer: bytes) -> bytes:
    return attach(flatbuffer, {})


def without_metadata(path: Path) -> bytes:
    return attach(model_file.read(path).flatbuffer, {})


@pytest.mark.parametrize(("drop", "old"), [("1", None), ("99", b"older")])
def test_the_gate_keeps_a_bad_model_from_the_place_of_the_good(
    run: Path,
    flatbuffer: bytes,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    drop: str,
    old: bytes | None,
) -> None:
    model = run / "model.tflite"
    if old:
        model.write_bytes(old)
    digest = RunFolder(run).read_contract().graph_sha256
    test = {"right": 12, "total": 12, "per_class": dict.fromkeys(LABELS)}
    files.write_json(run / "metrics.json", {"graph_sha256": digest, "test": test})
    monkeypatch.setattr(quantize, "quantize", lambda *_: spoiled(flatbuffer))
    result = invoke("convert", "--output-dir", run, "--max-accuracy-drop", drop)
    assert result.exit_code == 4
    error, *worst = result.stderr[result.stderr.index("Error: ") :].splitlines()
    name = run / "model.rejected.tflite"
    assert error.startswith(f"Error: {name}: ")
    assert "it loses 100.0 points of test accuracy" in error
    assert "its best label is the graph's on 0.0% of the test photos" in error
    assert "--calibration-images" in error
    testing = of_split(run, "testing")
    assert len(worst) == min(len(testing), 10)
    assert {line.split(": ")[0].strip() for line in worst} <= {str(photo.path) for photo in testing}
    assert without_metadata(run / "model.rejected.tflite") == rewritten(spoiled(flatbuffer))
    assert (model.read_bytes() if model.exists() else None) == old
    assert not (run / "labels.txt").exists()
    assert json.loads((run / "conversion.json").read_text("utf-8"))["passed"] is False
    summary = invoke("summary", "--output-dir", run)
    assert summary.exit_code == 4
    assert "the last conversion did not pass: run `retrain convert --output-dir " in summary.stderr


def test_a_drop_that_is_allowed_passes(
    run: Path, flatbuffer: bytes, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "quantize", lambda *_: spoiled(flatbuffer))
    result = invoke("convert", "--output-dir", run, *LOOSE, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed == json.loads((run / "conversion.json").read_text("utf-8"))
    assert printed["passed"]
    assert printed["model"]["right"] == 0
    assert printed["agreement"] == 0
    assert printed["max_difference"] > 0.9
    assert without_metadata(run / "model.tflite") == rewritten(spoiled(flatbuffer))
    assert not (run / "model.rejected.tflite").exists()


@pytest.mark.parametrize("split", ["training", "testing"])
@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.usefixtures("calibrations")
def test_a_photo_that_changed_since_training_is_named(
    run: Path, invoke: Invoke, split: str, remove: bool
) -> None:
    path = Path(of_split(run, split)[0].path)
    if remove:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith(f"Error: {path}: ")
    assert result.stderr.endswith(": train again\n")
    assert not (run / "model.tflite").exists()


def other_graph(run: Path) -> str:
    with (run / "output_graph.pb").open("ab") as stream:
        stream.write(b"\0")
    return f"{run / 'output_graph.pb'}: not the graph that {run / 'contract.json'} describes"


def no_graph(run: Path) -> str:
    (run / "output_graph.pb").unlink()
    return f"{run / 'output_graph.pb'}: cannot be read (No such file or directory): run `retrain"


def no_contract(run: Path) -> str:
    (run / "contract.json").unlink()
    return f"{run / 'contract.json'}: cannot be read (No such file or directory): run `retrain"


def no_manifest(run: Path) -> str:
    (run / "manifest.csv").unlink()
    return f"{run / 'manifest.csv'}: cannot be read as a manifest"


def no_training_photos(run: Path) -> str:
    testing = of_split(run, "testing")
    write_manifest(run / "manifest.csv", testing, ["testing"] * len(testing))
    return "no training photos to calibrate on"


@pytest.mark.parametrize(
    "spoil", [other_graph, no_graph, no_contract, no_manifest, no_training_photos]
)
def test_a_run_folder_that_is_not_whole_is_refused(
    run: Path, invoke: Invoke, spoil: Callable[[Path], str]
) -> None:
    words = spoil(run)
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 3
    assert words in result.stderr
    assert not (run / "model.rejected.tflite").exists()


def test_two_cannot_write_into_one_folder(run: Path, invoke: Invoke) -> None:
    with filelock.FileLock(run / ".lock"):
        for command in (("convert",), ("train", run.parent / "photos")):
            result = invoke(*command, "--output-dir", run)
            assert result.exit_code == 2
            assert f"{run}: another retrain is writing there: wait" in result.stderr


def trace(body: Callable[[Any], Any]) -> FrozenGraph:
    graph_def = tf_graph.trace(body, (8, 8, 3), "output").SerializeToString()
    return FrozenGraph(graph_def, SPEC, "output")


def test_a_graph_that_cannot_be_converted_is_bad_data() -> None:
    raw = tf_graph.tensorflow().raw_ops
    graph = trace(lambda images: raw.BesselI0(x=images))
    with pytest.raises(BadData, match=r"int8 failed: TFLite has no operation for BesselI0"):
        quantize.quantize(graph, INT8, np.zeros((1, 8, 8, 3), np.uint8))


def test_an_input_scale_that_is_not_a_byte_a_pixel_is_refused() -> None:
    tf = tf_graph.tensorflow()
    graph = trace(lambda images: tf.nn.relu(tf.reduce_mean(images, [1, 2])))
    calibration = np.linspace(64, 191, 192).astype(np.uint8).reshape(1, 8, 8, 3)
    with pytest.raises(BadData, match="a pixel would not be its byte"):
        quantize.quantize(graph, Quantization("int8-edgetpu"), calibration)
