"""`retrain bench` of a run folder, and its report. No test asserts on speed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import compare_models, find_models
from bench.cli import _powers_of_two
from bench.record import SCHEMA_VERSION, BenchRecord, read
from bench.report import report
from bench.time_one_round import peak_bytes
from tests.helpers.bench_fixtures import FEW, MULTIPLY_ADDS, invoke, make_quick, measure_few
from tests.helpers.deploy_fixtures import DEVICE

DELEGATED = "XNNPACK 4/6"
"""Of the tiny network with bytes as its input: all but their QUANTIZE and the SOFTMAX of int8."""


@pytest.fixture(scope="module")
def run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the run folder, for what `retrain bench` writes."""
    folder = tmp_path_factory.mktemp("run") / "retrained"
    shutil.copytree(run_folder, folder)
    return folder


@pytest.fixture(scope="module")
def printed(run: Path) -> str:
    """Return what `retrain bench` prints."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        result = invoke("--output-dir", run, *FEW, "--profile", "--json")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def values(printed: str) -> Any:
    return json.loads(printed)


@pytest.fixture
def record(printed: str, run: Path) -> BenchRecord:
    assert printed
    (record,) = read(run / "bench.json")
    return record


def test_the_json_printed_is_the_json_saved(run: Path, values: Any) -> None:
    assert json.loads((run / "bench.json").read_text("utf-8")) == values
    assert not list(run.glob(".*"))
    graph = (run / "output_graph.pb").read_bytes()
    assert values["graph_sha256"] == hashlib.sha256(graph).hexdigest()
    assert values["schema"] == SCHEMA_VERSION


def test_a_record_read_and_written_again_is_the_same(record: BenchRecord, values: Any) -> None:
    assert record.to_json() == values
    assert json.dumps(record.to_json()) == json.dumps(values)  # in the same order


def test_what_was_measured_is_shown_again(run: Path, printed: str, record: BenchRecord) -> None:
    shown = invoke("show", "--output-dir", run, "--json")
    assert (shown.exit_code, shown.stdout) == (0, printed)
    assert invoke("show", run / "bench.json").stdout == report(record) + "\n"


def test_graph_and_recipes_are_timed_and_one_file_once(values: Any) -> None:
    names = ["output_graph.pb", "model.tflite", "recipes/float32.tflite"]
    assert [runner["model"] for runner in values["runners"]] == names
    assert [runner["accuracy"] for runner in values["runners"]] == [0.9, 0.8, 0.7]
    assert values["runners"][1]["accuracy_interval95"] == [0.7, 0.9]


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
    conversion = json.loads((folder / "conversion.json").read_text())
    (folder / "conversion.json").write_text(json.dumps({**conversion, **change}))
    scored = {file.name: file.score is not None for file in find_models.models_of_run(folder)}
    assert scored == {
        "output_graph.pb": graph, "model.tflite": model, "recipes/float32.tflite": recipe
    }  # fmt: skip


@pytest.mark.usefixtures("in_process")
def test_each_number_of_threads_has_a_reference_and_a_peak(run_folder: Path) -> None:
    models = (run_folder / "model.tflite", run_folder / "recipes" / "float32.tflite")
    values = measure_few(*models, "--threads", 2)
    order = [(runner["model"], runner["threads"]) for runner in values["runners"]]
    assert order == [(path.name, threads) for path in models for threads in (1, 2)]
    first, second, *rest = values["runners"]
    assert first["ratio_p50"] == second["ratio_p50"] == 1
    for runner, reference in zip(rest, (first, second), strict=True):
        assert runner["ratio_p50"] == pytest.approx(runner["ms"]["p50"] / reference["ms"]["p50"])
    assert set(values["peak_gmacs"]) == {"1", "2"}


def test_each_runner_keeps_its_raw_samples(values: Any, run: Path) -> None:
    for runner in values["runners"]:
        path = run / runner["model"]
        assert runner["size_bytes"] == path.stat().st_size
        assert runner["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert runner["multiply_adds"] == MULTIPLY_ADDS
        assert set(runner["photo_ms"]) == {"decode", "preprocess", "invoke", "total"}
        samples = sorted(ns for one_round in runner["rounds"] for ns in one_round["samples_ns"])
        assert len(samples) == 16
        assert runner["ms"]["p50"] == pytest.approx((samples[7] + samples[8]) / 2e6)
        reference = values["runners"][0]["ms"]["p50"]
        assert runner["ratio_p50"] == pytest.approx(runner["ms"]["p50"] / reference)
        assert runner["load_s"] > 0
        assert runner["first_ms"] > 0


def test_each_round_is_a_process_of_its_own(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.compare_models.BUSY_SHARE", 2.0)
    monkeypatch.setitem(compare_models._PRODUCT.arguments, "sides", (32,))
    values = measure_few(run_folder / "model.tflite")
    (runner,) = values["runners"]
    assert len(runner["rounds"]) == 2
    for one_round in runner["rounds"]:
        # A process that has only numpy and a runtime; this one has TensorFlow.
        assert 1e6 < one_round["peak_bytes"] < peak_bytes()
        assert one_round["warm_up"] > 10
    assert runner["peak_rss_bytes"] > 1e6


def test_the_table_names_all_that_figures_depend_on(record: BenchRecord) -> None:
    graph, model, _ = record.runners
    assert (graph.runtime, graph.delegate, graph.input) == ("TensorFlow", None, "float32")
    assert (model.runtime, model.delegate, model.input) == ("LiteRT", DELEGATED, "uint8")
    text = report(record)
    machine = record.machine
    assert machine.cores == os.cpu_count()
    for fact in (
        f"LiteRT {model.version}",
        f"TensorFlow {graph.version}",
        DELEGATED,
        machine.cpu,
        f"{machine.cores} cores",
        machine.os,
        f"Python {machine.python}",
        f"{(machine.memory_bytes or 0) / 1e9:.1f} GB",
        f"load {record.state.before.load:.1f} before",
        "2 rounds in random order",
        f"{model.ms.p99:.2f}",
        f"{model.ratio_p50:.2f}",
        f"{model.first_ms:.1f}",
        "80.0%",
    ):
        assert fact in text
    rows = report(record, markdown=True).splitlines()
    assert sum(row.startswith("| model.tflite | LiteRT") for row in rows) == 2


def test_the_runtime_that_reports_operators_is_profiled_and_the_other_named(
    record: BenchRecord,
) -> None:
    graph, model, _ = record.runners
    assert model.operators is None
    assert graph.operators
    assert any("Conv2D" in operator.kind for operator in graph.operators)
    assert all(operator.ms > 0 and operator.count > 0 for operator in graph.operators)
    text = report(record)
    assert "LiteRT does not report the times of operators to Python" in text
    assert graph.operators[0].kind in text


@pytest.mark.parametrize(
    ("p50", "runtime", "architecture", "explained"),
    [
        (30.0, "tflite-runtime", "x86_64", True),
        (30.0, "tflite-runtime", "armv7l", False),
        (2.0, "tflite-runtime", "x86_64", False),
        (30.0, "LiteRT", "x86_64", False),
    ],
)
def test_slow_int8_is_explained(
    record: BenchRecord, p50: float, runtime: str, architecture: str, explained: bool
) -> None:
    graph, int8, float32 = record.runners
    runners = (
        graph,
        replace(int8, runtime=runtime, ms=replace(int8.ms, p50=p50)),
        replace(float32, runtime=runtime, ms=replace(float32.ms, p50=3.0)),
    )
    machine = replace(record.machine, architecture=architecture)
    text = report(replace(record, machine=machine, runners=runners))
    assert ("this runtime has no fast int8 kernels on x86 (it has on ARM)" in text) == explained
    assert ("10.0 times the time of recipes/float32.tflite" in text) == explained


@pytest.mark.usefixtures("in_process")
@pytest.mark.skipif(not DEVICE.exists(), reason=f"no device environment at {DEVICE}")
def test_the_runtimes_of_another_python_are_timed_too(run_folder: Path) -> None:
    values = measure_few(run_folder / "model.tflite", "--runtime-python", DEVICE)
    here, there = values["runners"]
    assert (here["runtime"], here["delegate"]) == ("LiteRT", DELEGATED)
    if there["runtime"] == "tflite-runtime":
        assert there["version"] == "2.14.0"
        selected = measure_few(
            run_folder / "model.tflite", "--runtime-python", DEVICE, "--runtime", "tflite-runtime"
        )
        assert {runner["runtime"] for runner in selected["runners"]} == {"tflite-runtime"}


def test_an_empty_run_folder_says_what_to_do(tmp_path: Path) -> None:
    result = invoke("--output-dir", tmp_path)
    assert result.exit_code == 3
    assert f"run `retrain train DIR --output-dir {tmp_path}` first" in result.stderr


def test_a_folder_that_takes_no_record_is_refused_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.tflite").write_bytes(b"none")
    monkeypatch.setattr("bench.cli.os.access", lambda _, mode: mode != os.W_OK)
    result = invoke("--output-dir", tmp_path)
    assert result.exit_code == 3
    assert f"{tmp_path}: bench.json cannot be written there" in result.stderr


@pytest.mark.usefixtures("in_process")
def test_on_a_device_the_model_alone_is_timed(run_folder: Path, tmp_path: Path) -> None:
    shutil.copy(run_folder / "model.tflite", tmp_path)
    (runner,) = measure_few("run", "--output-dir", tmp_path)["runners"]
    assert (runner["model"], runner["ratio_p50"]) == ("model.tflite", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rounds", "1"),
        ("--merge", "old.json"),
        ("compare", "old.json"),
        ("plot", "old.json"),
        ("--runtime", "ONNX"),
        ("--input-tensor", "input"),
        ("--input-size", "5"),
        ("model.tflite", "--runtime-python", "no-such-python"),
    ],
)
def test_wrong_use_is_refused(run_folder: Path, arguments: tuple[str, ...]) -> None:
    words = [str(run_folder / word) if word == "model.tflite" else word for word in arguments]
    assert invoke(*words).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("model.tflite", "--output-dir", "run"), "--output-dir is used if no MODEL is named"),
        (("show", "bench.json", "--output-dir", "run"), "--output-dir is used if no RECORD is"),
        (
            ("plot", "bench.json", "--output", "x.png", "--output-dir", "run"),
            "--output-dir is used if no RECORD is named: leave one of them out",
        ),
        (("model.tflite", "--input-tensor", "x"), "--input-tensor is for a frozen graph (.pb)"),
        (("model.tflite", "--output-tensor", "x"), "--output-tensor is for a frozen graph (.pb)"),
        (("model.tflite", "--input-size", 5), "--input-size is for a frozen graph (.pb) or a Sav"),
        (
            ("model.tflite", "--runtime", "tensorflow"),
            "--runtime TensorFlow: these models run on LiteRT or tflite-runtime: leave it out",
        ),
        (("model.tflite", "--markdown", "--json"), "--markdown and --json are two forms"),
        (("show", "bench.json", "--markdown", "--json"), "--markdown and --json are two forms"),
        (("compare", "a.json", "b.json", "--json", "--markdown"), "are two forms: leave one of"),
        (("saved", "model.tflite", "--input-tensor", "x"), "and no MODEL is one: leave it out"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    run_folder: Path,
    tmp_path: Path,
    arguments: tuple[object, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(run_folder / "model.tflite", tmp_path)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_help_loads_no_numpy() -> None:
    code = (
        "import sys\nfrom retrain.cli import commands\n"
        "try: commands(['bench', '--help'])\n"
        "except SystemExit: sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_names_the_commands_and_what_no_command_means() -> None:
    text = invoke("--help").stdout
    for fact in ("run ", "show ", "compare ", "plot ", "means `retrain bench run`"):
        assert fact in text


def test_what_cannot_be_timed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    for path in (tmp_path / "notes.txt", tmp_path, tmp_path / "missing.pb"):
        result = invoke(path)
        assert result.exit_code == 3
        assert "not there, or not a .pb or .tflite file or a SavedModel folder" in result.stderr


def test_a_photo_that_is_none_is_named(run_folder: Path) -> None:
    result = invoke(run_folder / "model.tflite", *FEW, "--photo", "/dev/zero")
    assert result.exit_code == 3
    assert "/dev/zero: " in result.stderr
    result = invoke(run_folder / "model.tflite", *FEW, "--photo", run_folder / "labels.txt")
    assert result.exit_code == 3
    assert f"{run_folder / 'labels.txt'}: not a photo" in result.stderr


@pytest.mark.usefixtures("in_process")
def test_threads_are_no_more_than_the_cores_that_may_be_used(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1}, raising=False)
    result = invoke(run_folder / "model.tflite", *FEW[:4], "--json")
    assert json.loads(result.stdout)["settings"]["threads"] == [1]


def test_threads_are_powers_of_two_up_to_the_cores() -> None:
    powers = [_powers_of_two(cores) for cores in (1, 2, 6, 8)]
    assert powers == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]
