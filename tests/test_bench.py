"""`retrain bench`: real graphs, real models, real processes. None asserts on speed."""

import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from deploy_fixtures import LABELS, networks, write_run

from bench import graphs, models, subjects
from bench.cli import _powers
from bench.machine import SCHEMA_VERSION
from bench.table import report
from deploy.contract import Contract
from deploy.errors import BadData
from retrain.cli import commands

DEVICE = Path(
    os.environ.get(
        "RETRAIN_DEVICE_PYTHON", Path(__file__).parents[1] / ".venv-device" / "bin" / "python"
    )
)
FEW = ("--rounds", "2", "--runs", "8", "--threads", "1")
DELEGATED = "XNNPACK 4/6"
"""Of the tiny network with bytes as its input: all but their QUANTIZE and the SOFTMAX of int8."""
# The tiny network: 15x15 places of a 3x3 kernel from 3 to 6 channels, then 6 numbers to 4 classes.
MULTIPLY_ADDS = 15 * 15 * 3 * 3 * 3 * 6 + 6 * len(LABELS)


@pytest.fixture(autouse=True)
def _never_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.rounds.BUSY", 2.0)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny frozen graph and its models, as a run leaves them."""
    folder = write_run(tmp_path_factory.mktemp("retrained"))
    (folder / "recipes").mkdir()
    shutil.move(folder / "float.tflite", folder / "recipes" / "float32.tflite")
    shutil.copy(folder / "model.tflite", folder / "recipes" / "int8.tflite")
    sizes = {path.stem: path.stat().st_size for path in folder.rglob("*.*")}
    conversion = {
        "graph_sha256": hashlib.sha256((folder / "output_graph.pb").read_bytes()).hexdigest(),
        "passed": True,
        "bytes": {"graph": sizes["output_graph"], "model": sizes["model"]},
        "graph": {"accuracy": 0.9, "interval95": [0.8, 0.95]},
        "model": {"accuracy": 0.8, "interval95": [0.7, 0.9]},
        "candidates": [
            {
                "recipe": "float32",
                "accuracy": 0.7,
                "interval95": [0.6, 0.8],
                "bytes": sizes["float32"],
            }
        ],
    }
    (folder / "conversion.json").write_text(json.dumps(conversion))
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["bench", *map(str, arguments)])


def measured(*arguments: object) -> Any:
    result = invoke(*arguments, *FEW, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def printed(run_folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.rounds.BUSY", 2.0)
        result = invoke("--output-dir", run_folder, *FEW, "--profile", "--json")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def record(printed: str) -> Any:
    return json.loads(printed)


def test_the_json_printed_is_the_json_saved(run_folder: Path, printed: str, record: Any) -> None:
    assert (run_folder / "bench.json").read_text("utf-8") == printed
    assert not list(run_folder.glob(".*"))
    graph = (run_folder / "output_graph.pb").read_bytes()
    assert record["graph_sha256"] == hashlib.sha256(graph).hexdigest()
    assert record["schema"] == SCHEMA_VERSION


def test_graph_and_recipes_are_timed_and_one_file_once(record: Any) -> None:
    names = ["output_graph.pb", "model.tflite", "recipes/float32.tflite"]
    assert [each["model"] for each in record["runners"]] == names
    assert [each["accuracy"] for each in record["runners"]] == [0.9, 0.8, 0.7]
    assert record["runners"][1]["accuracy_interval95"] == [0.7, 0.9]


@pytest.mark.parametrize(
    ("change", "graph", "model", "recipe"),
    [
        ({}, True, True, True),
        ({"graph_sha256": "0" * 64}, False, False, False),
        ({"passed": False}, True, False, True),
        ({"bytes": {"graph": 1, "model": 1}}, False, False, True),
        ({"candidates": []}, True, True, False),
    ],
)
def test_an_accuracy_of_another_file_is_not_shown(
    run_folder: Path,
    tmp_path: Path,
    change: dict[str, Any],
    graph: bool,
    model: bool,
    recipe: bool,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    known = json.loads((folder / "conversion.json").read_text())
    (folder / "conversion.json").write_text(json.dumps({**known, **change}))
    found = {each.name: each.score is not None for each in subjects.of_run(folder)}
    assert found == {
        "output_graph.pb": graph, "model.tflite": model, "recipes/float32.tflite": recipe
    }  # fmt: skip


def test_each_number_of_threads_has_a_reference_and_a_peak(run_folder: Path) -> None:
    models = (run_folder / "model.tflite", run_folder / "recipes" / "float32.tflite")
    record = measured(*models, "--threads", 2)
    found = [(each["model"], each["threads"]) for each in record["runners"]]
    assert found == [(path.name, threads) for path in models for threads in (1, 2)]
    first, second, *others = record["runners"]
    assert first["ratio_p50"] == second["ratio_p50"] == 1
    for each, reference in zip(others, (first, second), strict=True):
        assert each["ratio_p50"] == pytest.approx(each["ms"]["p50"] / reference["ms"]["p50"])
    assert set(record["peak_gmacs"]) == {"1", "2"}


def test_each_runner_keeps_its_raw_samples(record: Any, run_folder: Path) -> None:
    for each in record["runners"]:
        path = run_folder / each["model"]
        assert each["size_bytes"] == path.stat().st_size
        assert each["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert each["multiply_adds"] == MULTIPLY_ADDS
        assert set(each["photo_ms"]) == {"decode", "preprocess", "invoke", "total"}
        samples = sorted(ns for turn in each["rounds"] for ns in turn["samples_ns"])
        assert len(samples) == 16
        assert each["ms"]["p50"] == pytest.approx((samples[7] + samples[8]) / 2e6)
        reference = record["runners"][0]["ms"]["p50"]
        assert each["ratio_p50"] == pytest.approx(each["ms"]["p50"] / reference)
        assert each["load_s"] > 0
        assert each["first_ms"] > 0
        assert each["peak_rss_bytes"] > 1e6


def test_the_table_names_all_that_figures_hang_on(record: Any) -> None:
    graph, model, _ = record["runners"]
    assert (graph["runtime"], graph["delegate"], graph["input"]) == ("TensorFlow", None, "float32")
    assert (model["runtime"], model["delegate"], model["input"]) == ("LiteRT", DELEGATED, "uint8")
    text = report(record)
    machine = record["machine"]
    assert machine["cores"] == os.cpu_count()
    for named in (
        f"LiteRT {model['version']}",
        f"TensorFlow {graph['version']}",
        DELEGATED,
        machine["cpu"],
        f"{machine['cores']} cores",
        machine["os"],
        f"Python {machine['python']}",
        f"{machine['memory_bytes'] / 1e9:.1f} GB",
        f"load {record['state']['before']['load']:.1f} before",
        "2 rounds in random order",
        f"{model['ms']['p99']:.2f}",
        f"{model['ratio_p50']:.2f}",
        f"{model['first_ms']:.1f}",
        "80.0%",
    ):
        assert named in text
    rows = report(record, markdown=True).splitlines()
    assert sum(row.startswith("| model.tflite | LiteRT") for row in rows) == 2


def test_the_runtime_that_tells_operators_is_profiled_and_the_other_named(record: Any) -> None:
    graph, model, _ = record["runners"]
    assert model["operators"] is None
    kinds = {each["kind"]: each for each in graph["operators"]}
    assert any("Conv2D" in kind for kind in kinds)
    assert all(each["ms"] > 0 and each["count"] > 0 for each in kinds.values())
    text = report(record)
    assert "LiteRT does not tell the times of operators to Python" in text
    assert next(iter(kinds)) in text


@pytest.mark.parametrize(
    ("p50", "runtime", "architecture", "said"),
    [
        (30.0, "tflite-runtime", "x86_64", True),
        (30.0, "tflite-runtime", "armv7l", False),
        (2.0, "tflite-runtime", "x86_64", False),
        (30.0, "LiteRT", "x86_64", False),
    ],
)
def test_slow_int8_is_explained(
    record: Any, p50: float, runtime: str, architecture: str, said: bool
) -> None:
    record["machine"]["architecture"] = architecture
    _, integer, real = record["runners"]
    integer["runtime"] = runtime
    integer["ms"]["p50"] = p50
    real["runtime"] = runtime
    real["ms"]["p50"] = 3.0
    text = report(record)
    assert ("this runtime has no fast int8 kernels on x86 (it has on ARM)" in text) == said
    assert ("10.0 times the time of recipes/float32.tflite" in text) == said


@pytest.mark.skipif(not DEVICE.exists(), reason=f"no device environment at {DEVICE}")
def test_the_runtimes_of_another_python_are_timed_too(run_folder: Path) -> None:
    record = measured(run_folder / "model.tflite", "--runtime-python", DEVICE)
    here, there = record["runners"]
    assert (here["runtime"], here["delegate"]) == ("LiteRT", DELEGATED)
    if there["runtime"] == "tflite-runtime":
        assert there["version"] == "2.14.0"
    only = measured(
        run_folder / "model.tflite", "--runtime-python", DEVICE, "--runtime", there["runtime"]
    )
    assert {each["runtime"] for each in only["runners"]} == {there["runtime"]}


def test_models_of_others_are_timed_with_random_input(tmp_path: Path) -> None:
    (tmp_path / "int8.tflite").write_bytes(networks().int8)
    (tmp_path / "float.tflite").write_bytes(networks().float32)
    save_model(tmp_path / "saved")
    names = ("int8.tflite", "float.tflite", "saved")
    record = measured(*(tmp_path / name for name in names), "--input-size", 32)
    assert [each["model"] for each in record["runners"]] == list(names)
    assert [each["input"] for each in record["runners"]] == ["int8", "float32", "float32"]
    counted = [each["multiply_adds"] for each in record["runners"]]
    assert counted == [MULTIPLY_ADDS, MULTIPLY_ADDS, None]
    assert [each["photo_ms"] for each in record["runners"]] == [{}] * 3
    record["settings"]["profile"] = True
    assert "saved: not profiled: only frozen graphs are, in TensorFlow" in report(record)
    assert record["graph_sha256"] is None


def test_a_delegate_is_named_with_the_nodes_that_it_took(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = tmp_path / "part.tflite"
    path.write_bytes(summed(scaled=True))
    assert models.tflite(str(path), 1).about.delegate == "XNNPACK 2/3"
    path.write_bytes(summed(scaled=False))
    assert models.tflite(str(path), 1).about.delegate is None
    without = Interpreter(
        model_content=networks().float32,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    without.allocate_tensors()
    assert models.delegate(without._get_ops_details()) is None
    (tmp_path / "whole.tflite").write_bytes(networks().float32)
    assert models.tflite(str(tmp_path / "whole.tflite"), 1).about.delegate == "XNNPACK 4/4"


def summed(scaled: bool) -> bytes:
    """Return a model of a running sum, which XNNPACK has not, behind two operators it has."""
    from retrain import graph

    tf = graph.tensorflow()
    with tf.Graph().as_default() as made:
        images = tf.compat.v1.placeholder(tf.float32, [1, 8, 8, 3], name="input")
        row = tf.reduce_sum(2 * images, [1, 2]) if scaled else images
        tf.cumsum(row, axis=1, name="out")
    function = graph.function(made.as_graph_def(), "out")
    content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    return content


def save_model(folder: Path) -> None:
    """Write a SavedModel with a variable, and an image of any size as its input."""
    from retrain.graph import tensorflow

    tf = tensorflow()

    class Doubler(tf.Module):  # type: ignore[misc]
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
    from retrain.graph import tensorflow

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
        ((None, None), "inputs a, b; outputs c, d: name one of each with --input-tensor and --out"),
        (("a", "c"), "give --input-size"),
        (("a", "x"), "not a frozen graph with the nodes `a` and `x`"),
    ],
)
def test_a_graph_that_does_not_tell_its_ends_asks(
    two_ended: Path, ends: graphs.Ends, reason: str
) -> None:
    with pytest.raises(BadData, match=re.escape(reason)):
        graphs.frozen_graph(str(two_ended), 1, ends)


def test_a_graph_of_others_is_called_between_the_ends_that_are_named_or_found(
    two_ended: Path, tmp_path: Path
) -> None:
    loaded = graphs.frozen_graph(str(two_ended), 1, ("a", "c:0"), 8)
    (tensor,) = loaded.call.args  # type: ignore[attr-defined]
    np.testing.assert_array_equal(loaded.call(), -tensor)
    assert tensor.shape == (1, 8, 8, 3)
    (tmp_path / "graph.pb").write_bytes(networks().graph)
    found = graphs.frozen_graph(str(tmp_path / "graph.pb"), 1)
    assert found.call().sum() == pytest.approx(1)  # probabilities
    assert found.about.multiply_adds == MULTIPLY_ADDS
    assert found.steps == ()


def test_the_ends_that_are_named_reach_the_process(two_ended: Path) -> None:
    ends = ("--input-tensor", "a", "--output-tensor", "c")
    result = invoke(two_ended, *ends, *FEW)
    assert result.exit_code == 3
    assert "two.pb: it does not tell the size of an image: give --input-size" in result.stderr


def test_a_graph_without_its_output_says_which(run_folder: Path, tmp_path: Path) -> None:
    contract = Contract.from_json((run_folder / "contract.json").read_bytes())
    (tmp_path / "contract.json").write_text(replace(contract, output="other").to_json())
    path = tmp_path / "output_graph.pb"
    shutil.copy(run_folder / path.name, path)
    with pytest.raises(BadData, match="not a frozen graph with the nodes `input` and `other`"):
        graphs.frozen_graph(str(path), 1)


@pytest.mark.parametrize(
    ("load", "name"),
    [(models.tflite, "model.tflite"), (graphs.frozen_graph, "output_graph.pb")],
)
def test_the_time_to_load_has_that_of_reading_the_file(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, load: Any, name: str
) -> None:
    read = Path.read_bytes

    def slow(path: Path) -> bytes:
        if path.name == name:
            time.sleep(0.2)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", slow)
    assert load(str(run_folder / name), 1).about.load_s > 0.2


def test_a_contract_of_another_graph_is_not_believed(run_folder: Path, tmp_path: Path) -> None:
    contract = Contract.from_json((run_folder / "contract.json").read_bytes())
    foreign = replace(contract, graph_sha256="0" * 64, output="other")
    (tmp_path / "contract.json").write_text(foreign.to_json())
    shutil.copy(run_folder / "output_graph.pb", tmp_path / "original.pb")
    loaded = graphs.frozen_graph(str(tmp_path / "original.pb"), 1)
    assert loaded.call().sum() == pytest.approx(1)
    assert loaded.steps == ()


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
    paths = [tmp_path / each for each in ("output_graph.pb", "contract.json", "model.tflite")]
    for path in paths:
        content = (run_folder / path.name).read_bytes()
        path.write_bytes(damage(content) if path.name == name else content)
    record = measured("--output-dir", tmp_path)
    (runner,) = record["runners"]
    (refused,) = record["not_run"]
    assert {runner["model"], refused["model"]} == {"output_graph.pb", "model.tflite"}
    assert refused["model"] == name
    assert f"{tmp_path / name}: damaged" in refused["reason"]
    assert (tmp_path / "bench.json").exists()


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
    assert "run `retrain convert` first" in invoke("--output-dir", tmp_path).stderr


def test_an_empty_run_folder_says_what_to_do(tmp_path: Path) -> None:
    result = invoke("--output-dir", tmp_path)
    assert result.exit_code == 3
    assert "run `retrain train` first" in result.stderr


def test_on_a_device_the_model_alone_is_timed(run_folder: Path, tmp_path: Path) -> None:
    shutil.copy(run_folder / "model.tflite", tmp_path)
    (runner,) = measured("--output-dir", tmp_path)["runners"]
    assert (runner["model"], runner["ratio_p50"]) == ("model.tflite", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rounds", "1"),
        ("--merge",),
        ("--compare", "old.json", "new.json", "--merge"),
        ("--runtime", "ONNX"),
        ("model.tflite", "--runtime-python", "no-such-python"),
    ],
)
def test_wrong_use_is_refused(run_folder: Path, arguments: tuple[str, ...]) -> None:
    found = [str(run_folder / word) if word == "model.tflite" else word for word in arguments]
    assert invoke(*found).exit_code == 2


def test_what_cannot_be_timed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    for path in (tmp_path / "notes.txt", tmp_path, tmp_path / "missing.pb"):
        result = invoke(path)
        assert result.exit_code == 3
        assert "not there, or not a .pb or .tflite file or a SavedModel folder" in result.stderr


def test_a_photo_that_is_none_is_named(run_folder: Path) -> None:
    result = invoke(run_folder / "model.tflite", *FEW, "--photo", run_folder / "labels.txt")
    assert result.exit_code == 3
    assert f"{run_folder / 'labels.txt'}: not a photo" in result.stderr


def test_threads_are_no_more_than_the_cores_that_may_be_used(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1}, raising=False)
    result = invoke(run_folder / "model.tflite", *FEW[:4], "--json")
    assert json.loads(result.stdout)["settings"]["threads"] == [1]


def test_threads_are_powers_of_two_up_to_the_cores() -> None:
    assert [_powers(cores) for cores in (1, 2, 6, 8)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]
