"""The bench of recipes: real models timed by real runtimes; training is left to the product."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.experiments import recipes
from deploy import model_file
from tests.helpers.deploy_fixtures import DEVICE, write_run
from tests.helpers.quantized_fixtures import DYNAMIC, convert


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def newer(run: Path) -> Path:
    """Return a model that only a newer runtime than 2.14 loads."""
    path = run / "newer.tflite"
    path.write_bytes(
        model_file.pack(convert(DYNAMIC), model_file.read(run / "model.tflite").contract)
    )
    return path


def test_each_model_is_timed_on_each_runtime(run: Path, newer: Path) -> None:
    pythons = [Path(sys.executable), *([DEVICE] if DEVICE.exists() else [])]
    models = [run / "model.tflite", run / "float.tflite", newer, run / "missing.tflite"]
    found = recipes.time_models(models, pythons, 2)
    assert [len(each) for each in found] == [len(pythons)] * 4
    for quantized_or_float in found[:2]:
        assert quantized_or_float[0]["runtime"].startswith("LiteRT 2.")
        assert all(each["ms"]["p50"] > 0 for each in quantized_or_float)
    assert all("cannot be read" in each["refused"] for each in found[3])
    if len(pythons) == 2 and found[0][1]["runtime"].startswith("tflite-runtime 2.14"):
        assert found[2][1]["refused"].startswith("tflite-runtime 2.14.0 does not load this model")


def test_a_python_without_what_it_needs_is_named(run: Path, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    ((row,),) = recipes.time_models([run / "model.tflite"], [program], 1)
    assert list(row) == ["refused"]
    assert row["refused"].startswith("model.tflite: its process died (SIGSEGV)")


def test_the_table_has_means_over_salts(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def product(command: str, *options: str) -> Any:
        """Stand for `retrain`: the model is real, its figures are written here."""
        asked.append((command, *options))
        if command == "train":
            return {"test": {"accuracy": 0.9}}
        folder = Path(options[options.index("--output-dir") + 1])
        folder.mkdir(exist_ok=True)
        (folder / "model.tflite").write_bytes((run / "model.tflite").read_bytes())
        accuracy = 0.9 if folder.name == "1" else 0.88
        model = {"accuracy": accuracy, "interval95": [0.8, 0.96], "total": 100}
        graph = {"accuracy": 0.9}
        return {"graph": graph, "model": model, "agreement": 0.98, "bytes": {"model": 4_000_000}}

    monkeypatch.setattr(recipes, "retrain", product)
    options = ["--network", "small=--architecture x", "--recipe", "int8=--quantize int8"]
    saved = tmp_path / "recipes.json"
    arguments = [str(tmp_path), *options, "--salts", "2", "--runs", "1", "--json", str(saved)]
    result = CliRunner().invoke(recipes.main, arguments)
    assert result.exit_code == 0, result.output
    trains = [each for each in asked if each[0] == "train"]
    assert [each[each.index("--split-salt") + 1] for each in trains] == ["1", "2"]
    assert all(each[-2:] == ("--architecture", "x") for each in trains)
    assert all(each[-2:] == ("--quantize", "int8") for each in asked if each[0] == "convert")
    title, heads, line = result.output.strip().splitlines()
    assert title == f"{tmp_path.name}, small: graph 90.0%, salts 1 to 2"
    assert "LiteRT 2." in heads
    assert line.split()[:8] == ["int8", "89.0%", "80.0%", "to", "96.0%", "1.00", "98.0%", "4.00"]
    figures = json.loads(saved.read_text("utf-8"))
    (measured,) = figures["measured"]
    assert result.output.strip() == recipes.table(measured)
    assert len(measured["recipes"]["int8"]["salts"]) == 2
    assert figures["machine"]["cores"] > 0
