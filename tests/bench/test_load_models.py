"""Loading of models and graphs without a contract, delegates, damaged files."""

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import load_tensorflow, load_tflite
from bench.find_models import GraphInput, open_model
from bench.report import report
from bench.worker_process import call, packages
from deploy.contract import Contract
from deploy.errors import BadData
from tests.helpers.bench_fixtures import FEW, MULTIPLY_ADDS, invoke, measure_few
from tests.helpers.deploy_fixtures import networks
from tests.helpers.record_fixtures import draw, record, runner


@pytest.mark.usefixtures("in_process")
def test_models_without_a_contract_are_timed_with_random_input(tmp_path: Path) -> None:
    (tmp_path / "int8.tflite").write_bytes(networks().int8)
    (tmp_path / "float.tflite").write_bytes(networks().float32)
    names = ("int8.tflite", "float.tflite")
    values = measure_few(*(tmp_path / name for name in names))
    assert [runner["model"] for runner in values["runners"]] == list(names)
    assert [runner["input"] for runner in values["runners"]] == ["int8", "float32"]
    assert [runner["multiply_adds"] for runner in values["runners"]] == [MULTIPLY_ADDS] * 2
    assert [runner["photo_ms"] for runner in values["runners"]] == [{}] * 2
    assert values["graph_sha256"] is None


def test_a_saved_model_is_timed_with_random_input(tmp_path: Path) -> None:
    save_model(tmp_path / "saved")
    model = open_model(tmp_path / "saved", "saved", GraphInput(size=32))
    assert model.runtimes == ("TensorFlow",)
    job = {"load": model.load, "arguments": {**model.arguments, "threads": 1}}
    with packages() as folder:  # TensorFlow takes numbers of threads only when it starts
        values = call("saved", "bench.time_one_round:measure", {**job, **NO_CALLS}, folder)
    assert (values["runtime"], values["input"], values["multiply_adds"]) == (
        "TensorFlow", "float32", None
    )  # fmt: skip
    assert values["first_ns"] > 0
    saved = runner("saved", draw(5), runtime="TensorFlow")
    measured = record(saved)
    profiled = replace(measured, settings=replace(measured.settings, profile=True))
    assert "saved: not profiled: only frozen graphs are, in TensorFlow" in report(profiled)


NO_CALLS = {"runs": 0, "seconds": 0}


def test_a_delegate_is_named_with_the_nodes_that_it_took(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = tmp_path / "part.tflite"
    path.write_bytes(running_sum_model(scaled=True))
    assert load_tflite.load_tflite(str(path), 1).about.delegate == "XNNPACK 2/3"
    path.write_bytes(running_sum_model(scaled=False))
    assert load_tflite.load_tflite(str(path), 1).about.delegate is None
    without = Interpreter(
        model_content=networks().float32,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    without.allocate_tensors()
    assert load_tflite.delegate(without._get_ops_details()) is None
    (tmp_path / "whole.tflite").write_bytes(networks().float32)
    assert (
        load_tflite.load_tflite(str(tmp_path / "whole.tflite"), 1).about.delegate == "XNNPACK 4/4"
    )


def running_sum_model(scaled: bool) -> bytes:
    """Return a model of a running sum, which XNNPACK has not, behind two operators it has."""
    from retrain import tf_graph as graph

    tf = graph.tensorflow()
    with tf.Graph().as_default() as definition:
        images = tf.compat.v1.placeholder(tf.float32, [1, 8, 8, 3], name="input")
        row = tf.reduce_sum(2 * images, [1, 2]) if scaled else images
        tf.cumsum(row, axis=1, name="out")
    function = graph.function(definition.as_graph_def(), "out")
    content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    return content


def save_model(folder: Path) -> None:
    """Write a SavedModel with a variable, and an image of any size as its input."""
    from retrain.tf_graph import tensorflow

    tf = tensorflow()

    class Doubler(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.by = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, image: Any) -> Any:
            return {"doubled": self.by * image}

    model = Doubler()
    tf.saved_model.save(model, str(folder), signatures=model.__call__)


@pytest.fixture(scope="module")
def two_ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a graph of two inputs and two outputs."""
    from retrain.tf_graph import tensorflow

    v1 = tensorflow().compat.v1
    with v1.Graph().as_default() as graph:
        first = v1.placeholder("float32", [None, None, None, 3], name="a")
        second = v1.placeholder("float32", [1], name="b")
        v1.negative(first, name="c")
        v1.negative(second, name="d")
    path = tmp_path_factory.mktemp("graph") / "two.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ((None, None), "inputs a, b; outputs c, d: name one of each with `input_tensor` and `out"),
        (("a", "c"), "give `input_size`"),
        (("a", "x"), "not a frozen graph with the nodes 'a' and 'x'"),
    ],
)
def test_a_graph_that_leaves_its_ends_open_names_the_settings(
    two_ended: Path, ends: load_tensorflow.Ends, reason: str
) -> None:
    with pytest.raises(BadData, match=re.escape(reason)):
        load_tensorflow.load_frozen_graph(str(two_ended), 1, ends)


def test_a_graph_without_a_contract_is_called_between_the_ends_that_are_named_or_found(
    two_ended: Path, tmp_path: Path
) -> None:
    loaded = load_tensorflow.load_frozen_graph(str(two_ended), 1, ("a", "c:0"), 8)
    (tensor,) = loaded.call.args  # type: ignore[attr-defined]
    np.testing.assert_array_equal(loaded.call(), -tensor)
    assert tensor.shape == (1, 8, 8, 3)
    (tmp_path / "graph.pb").write_bytes(networks().graph)
    alone = load_tensorflow.load_frozen_graph(str(tmp_path / "graph.pb"), 1)
    assert alone.call().sum() == pytest.approx(1)  # probabilities
    assert alone.about.multiply_adds == MULTIPLY_ADDS
    assert alone.steps == ()


@pytest.mark.usefixtures("in_process")
def test_the_ends_that_are_named_reach_the_process(two_ended: Path) -> None:
    ends = ("--input-tensor", "a", "--output-tensor", "c")
    result = invoke(two_ended, *ends, *FEW)
    assert result.exit_code == 3
    assert "two.pb: it does not say the size of an image: give --input-size" in result.stderr


def test_a_graph_without_its_output_says_which(run_folder: Path, tmp_path: Path) -> None:
    contract = Contract.from_json((run_folder / "contract.json").read_bytes())
    (tmp_path / "contract.json").write_text(replace(contract, output="other").to_json())
    path = tmp_path / "output_graph.pb"
    shutil.copy(run_folder / path.name, path)
    with pytest.raises(BadData, match="not a frozen graph with the nodes 'input' and 'other'"):
        load_tensorflow.load_frozen_graph(str(path), 1)


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (load_tflite.load_tflite, "model.tflite"),
        (load_tensorflow.load_frozen_graph, "output_graph.pb"),
    ],
)
def test_the_time_to_load_has_that_of_reading_the_file(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, load: Any, name: str
) -> None:
    original = Path.open

    def slow(path: Path, *mode: Any, **settings: Any) -> Any:
        if path.name == name:
            time.sleep(0.05)
        return original(path, *mode, **settings)

    monkeypatch.setattr(Path, "open", slow)
    assert load(str(run_folder / name), 1).about.load_s > 0.05


def test_a_contract_of_another_graph_is_not_believed(run_folder: Path, tmp_path: Path) -> None:
    contract = Contract.from_json((run_folder / "contract.json").read_bytes())
    foreign = replace(contract, graph_sha256="0" * 64, output="other")
    (tmp_path / "contract.json").write_text(foreign.to_json())
    shutil.copy(run_folder / "output_graph.pb", tmp_path / "original.pb")
    loaded = load_tensorflow.load_frozen_graph(str(tmp_path / "original.pb"), 1)
    assert loaded.call().sum() == pytest.approx(1)
    assert loaded.steps == ()


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("output_graph.pb", lambda content: content[: len(content) // 2]),
        ("model.tflite", lambda content: content[:-200]),
        ("model.tflite", lambda content: content[:99] + b"\xff" + content[100:]),
    ],
)
def test_a_damaged_file_is_named_and_the_other_is_timed(
    run_folder: Path, tmp_path: Path, name: str, damage: Any
) -> None:
    paths = [tmp_path / file for file in ("output_graph.pb", "contract.json", "model.tflite")]
    for path in paths:
        content = (run_folder / path.name).read_bytes()
        path.write_bytes(damage(content) if path.name == name else content)
    values = measure_few("--output-dir", tmp_path)
    (runner,) = values["runners"]
    (refused,) = values["not_run"]
    assert {runner["model"], refused["model"]} == {"output_graph.pb", "model.tflite"}
    assert refused["model"] == name
    assert f"{tmp_path / name}: damaged" in refused["reason"]
    assert (tmp_path / "bench.json").exists()


@pytest.mark.usefixtures("in_process")
def test_nothing_that_runs_is_an_error(run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes((run_folder / "model.tflite").read_bytes()[:-200])
    result = invoke("--output-dir", tmp_path, *FEW)
    assert result.exit_code == 3
    assert result.stdout == ""
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert f"{path}: damaged" in error
    assert not (tmp_path / "bench.json").exists()
    shutil.copy(run_folder / "output_graph.pb", tmp_path)
    path.unlink()
    command = f"retrain convert --output-dir {tmp_path}"
    assert f"run `{command}` first" in invoke("--output-dir", tmp_path).stderr
