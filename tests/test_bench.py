"""The bench: real graph, real model, real processes. None asserts on speed."""

import json
import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from deploy_fixtures import write_run
from PIL import Image

from bench import extract
from bench.cli import table
from bench.latency import Settings, alternate
from bench.machine import read_machine, save
from bench.runners import About, Loaded, started
from deploy import metadata
from deploy.errors import BadData
from retrain.cli import commands


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny frozen graph and its int8 model, as a run leaves them."""
    return write_run(tmp_path_factory.mktemp("retrained"))


def invoke(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(commands, ["bench", "--output-dir", str(folder), *options])


@pytest.fixture(scope="module")
def printed(run_folder: Path) -> str:
    result = invoke(run_folder, "--runs", "53", "--warmup", "1", "--threads", "2", "--json")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def record(printed: str) -> Any:
    return json.loads(printed)


def test_the_json_printed_is_the_json_saved(run_folder: Path, printed: str) -> None:
    assert (run_folder / "bench.json").read_text("utf-8") == printed
    assert not list(run_folder.glob(".*"))


def test_each_runner_keeps_its_raw_samples(record: Any) -> None:
    assert list(record["runners"]) == ["output_graph.pb", "model.tflite"]
    for each in record["runners"].values():
        assert len(each["samples_ns"]) == 53
        assert all(isinstance(sample, int) and sample > 0 for sample in each["samples_ns"])
        assert each["ms"]["p50"] == pytest.approx(sorted(each["samples_ns"])[26] / 1e6)
        assert each["ms"]["p50"] <= each["ms"]["p90"] <= each["ms"]["p99"]
        assert each["load_s"] > 0
    graph, model = (each["ms"]["p50"] for each in record["runners"].values())
    assert record["ratio_p50"] == pytest.approx(model / graph)


def test_figures_name_runtime_delegate_threads_and_machine(record: Any, run_folder: Path) -> None:
    graph, model = record["runners"].values()
    assert (graph["runtime"], graph["delegate"], graph["input"]) == ("TensorFlow", None, "float32")
    assert (model["runtime"], model["delegate"], model["input"]) == ("LiteRT", "XNNPACK", "uint8")
    assert model["size_bytes"] == (run_folder / "model.tflite").stat().st_size
    assert record["settings"]["threads"] == 2
    text = table(record)
    for named in (
        f"LiteRT {model['version']}",
        f"TensorFlow {graph['version']}",
        "XNNPACK",
        "threads: 2",
        record["machine"]["cpu"],
        f"{os.cpu_count()} cores",
        record["machine"]["os"],
        f"Python {record['machine']['python']}",
    ):
        assert named in text


@pytest.mark.parametrize(
    ("ratio", "runtime", "architecture", "verdict"),
    [
        (0.4, "LiteRT", "x86_64", "takes 0.40 of the frozen graph's time: 2.5 times as fast"),
        (6.0, "tflite-runtime", "x86_64", "no fast int8 kernels on x86; it does on ARM)"),
        (
            6.0,
            "tflite-runtime",
            "armv7l",
            "slower here: it takes 6.00 times the frozen graph's time",
        ),
        (6.0, "LiteRT", "x86_64", "slower here: it takes 6.00 times the frozen graph's time"),
    ],
)
def test_the_ratio_is_said_in_words(
    record: Any, ratio: float, runtime: str, architecture: str, verdict: str
) -> None:
    record["ratio_p50"] = ratio
    record["machine"]["architecture"] = architecture
    record["runners"]["model.tflite"]["runtime"] = runtime
    assert table(record).endswith(verdict)


def test_runners_take_turns_and_swap_them() -> None:
    asked: list[tuple[str, int]] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, times: int) -> list[int]:
            asked.append((self.name, times))
            return list(range(times))

    samples = alternate((Fake("a"), Fake("b")), Settings(runs=25, warmup=3, round_runs=10))
    assert asked[:2] == [("a", 3), ("b", 3)]
    assert asked[2:] == [("a", 11), ("b", 11), ("b", 11), ("a", 11), ("a", 6), ("b", 6)]
    # The first call of a turn, here 0, is not kept.
    assert samples == [[*range(1, 11), *range(1, 11), *range(1, 6)]] * 2


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("output_graph.pb", None, "run `retrain train` first"),
        ("model.tflite", None, "run `retrain convert` first"),
        ("output_graph.pb", lambda content: content[: len(content) // 2], "damaged"),
        (
            "output_graph.pb",
            lambda content: content.replace(b"final_r", b"other_r"),
            "final_result",
        ),
        ("model.tflite", lambda content: content[:-200], "damaged"),
        ("model.tflite", lambda content: content[:99] + b"\xff" + content[100:], "damaged"),
    ],
)
def test_a_missing_or_damaged_file_is_a_message(
    run_folder: Path, tmp_path: Path, name: str, damage: Any, reason: str
) -> None:
    for path in (run_folder / "output_graph.pb", run_folder / "model.tflite"):
        content = path.read_bytes()
        if path.name != name:
            (tmp_path / path.name).write_bytes(content)
        elif damage:
            assert damage(content) != content
            (tmp_path / path.name).write_bytes(damage(content))
    result = invoke(tmp_path)
    assert result.exit_code == 3
    assert result.stdout == ""
    error = result.stderr.splitlines()[1:]
    assert len(error) == 1
    assert str(tmp_path / name) in error[0]
    assert reason in error[0]
    assert not (tmp_path / "bench.json").exists()


def test_fewer_than_50_runs_are_refused(tmp_path: Path) -> None:
    assert invoke(tmp_path, "--runs", "49").exit_code == 2


def sleeper(seconds: float) -> Loaded:
    return Loaded(partial(time.sleep, seconds), About("sleep", "1", None, "none", 0.0))


def suicide() -> Loaded:
    return sleeper(0)._replace(call=partial(signal.raise_signal, signal.SIGTERM))


def test_a_slow_runner_is_measured_as_slow() -> None:
    with started("sleeper", partial(sleeper, 0.02)) as runner:
        samples = runner.run(5)
    assert len(samples) == 5
    assert min(samples) >= 20e6


@pytest.mark.parametrize(
    ("load", "patience_s", "reason"),
    [
        (partial(os._exit, 7), 60, r"runner: its process died \(exit code 7\)"),
        (suicide, 60, r"runner: its process died \(SIGTERM\)"),
        (partial(sleeper, 600), 1, "runner: its process gave no answer in 1 s"),
        (partial(int, "seven"), 60, "runner: ValueError: invalid literal"),
        (partial(metadata.read, Path("no such file")), 60, "no such file: cannot be read"),
    ],
)
def test_a_runner_that_fails_is_an_error_and_leaves_nothing(
    load: Any, patience_s: float, reason: str
) -> None:
    with pytest.raises(BadData, match=reason), started("runner", load, patience_s) as runner:
        runner.run(1)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("cpuinfo", "cpu"),
    [
        (
            "processor\t: 0\nmodel\t\t: 142\nmodel name\t: Intel(R) Core(TM) i7\n",
            "Intel(R) Core(TM) i7",
        ),
        (
            "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\n\nHardware\t: BCM2711\n"
            "Model\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
            "Raspberry Pi 4 Model B Rev 1.4, ARMv7 Processor rev 3 (v7l)",
        ),
        (
            "processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
            "Raspberry Pi 5 Model B Rev 1.0",
        ),
    ],
)
def test_the_cpu_has_the_name_that_people_know(tmp_path: Path, cpuinfo: str, cpu: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert read_machine(tmp_path / "cpuinfo").cpu == cpu


def test_a_machine_without_cpuinfo_has_a_cpu_too(tmp_path: Path) -> None:
    assert read_machine(tmp_path / "cpuinfo").cpu


def test_figures_that_cannot_be_saved_leave_the_old_ones(tmp_path: Path) -> None:
    save(tmp_path / "bench.json", {"figure": 1})
    with pytest.raises(UnicodeEncodeError):
        save(tmp_path / "bench.json", {"figure": "\udcff"})
    assert json.loads((tmp_path / "bench.json").read_text())["figure"] == 1
    assert os.listdir(tmp_path) == ["bench.json"]  # noqa: PTH208 (hidden files too)


def test_extraction_is_compared_on_the_same_photos(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(35):
            Image.new("RGB", (40, 30), (i, i, i)).save(tmp_path / label / f"{i}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no photo")
    calls: list[tuple[int, str, tuple[str, ...]]] = []

    def product(
        folder: Path,
        place: Path,  # noqa: ARG001
        bottlenecks: str,
        options: tuple[str, ...],
    ) -> extract.Product:
        calls.append((len(extract.find_photos(folder)), bottlenecks, options))
        spec = {"height": 32, "width": 32, "crop": None, "mean": 128.0, "std": 128.0}
        graph = str(run_folder / "output_graph.pb")
        made = {"analysed": 70, "seconds": {"bottlenecks": 0.5}, "graph": graph, "input": spec}
        return extract.Product(made, 321.0)

    monkeypatch.setattr(extract, "product", product)
    figures = extract.compare(tmp_path, rounds=1, options=("--architecture", "x"))
    assert figures["photos"] == 70
    assert [count for count, *_ in calls] == [2, 70, 70, 70]
    assert len({bottlenecks for _, bottlenecks, _ in calls}) == 4
    assert {options[:2] for *_, options in calls} == {("--architecture", "x")}
    engines = [options[3] for *_, options in calls[1:]]
    assert engines == ["auto", "tflite", "tensorflow"]
    assert all(figures["photos_per_s"][name] == [140.0] for name in "ALT")
    assert figures["peak_mb"] == {"A": [321.0], "L": [321.0], "T": [321.0]}
    for name in "BCD":
        assert len(figures["photos_per_s"][name]) == 1
        assert min(figures["photos_per_s"][name]) > 0
    text = extract.table(figures)
    for said in ("A/L 1.00", "A/T 1.00", "A/B", "A/C", "A/D", "T peak 321 MB"):
        assert said in text


def test_the_product_is_run_and_its_memory_measured(
    photos: Path, cache_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").symlink_to(cache_dir)
    made, peak_mb = extract.product(photos, tmp_path, "mine", ("--extract-engine", "tflite"))
    assert made["analysed"] == 72
    assert 50 < peak_mb < 2000
    with pytest.raises(BadData, match="exit code 2"):
        extract.product(photos, tmp_path, "mine", ("--no-such-option",))
