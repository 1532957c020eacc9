"""`retrain bench` of a run folder, and its table. Real processes; none asserts on speed."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import find_models
from bench.cli import _powers
from bench.machine import SCHEMA_VERSION
from bench.report import report
from tests.helpers.bench_fixtures import (
    FEW,
    MULTIPLY_ADDS,
    invoke,
    measured,
    never_busy,
    run_folder,
)
from tests.helpers.deploy_fixtures import DEVICE

__all__ = ["never_busy", "run_folder"]

DELEGATED = "XNNPACK 4/6"
"""Of the tiny network with bytes as its input: all but their QUANTIZE and the SOFTMAX of int8."""


@pytest.fixture(scope="module")
def printed(run_folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.compare_models.BUSY", 2.0)
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
    found = {each.name: each.score is not None for each in find_models.of_run(folder)}
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


def test_an_empty_run_folder_says_what_to_do(tmp_path: Path) -> None:
    result = invoke("--output-dir", tmp_path)
    assert result.exit_code == 3
    assert "run `retrain train` first" in result.stderr


def test_a_folder_that_takes_no_record_is_refused_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.tflite").write_bytes(b"none")
    monkeypatch.setattr("bench.cli.os.access", lambda _, mode: mode != os.W_OK)
    result = invoke("--output-dir", tmp_path)
    assert result.exit_code == 3
    assert f"{tmp_path}: bench.json cannot be written there" in result.stderr


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
