"""Files that earlier versions wrote still open: conversion.json and model.tflite."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import find_models
from deploy import files, model_file
from deploy.check_goldens import check_goldens
from deploy.classifier import Classifier
from deploy.cli.selftest import run as selftest
from deploy.errors import BadData
from retrain.conversion.result import ConversionResult
from retrain.run_folder import RunFolder
from tests.helpers.deploy_fixtures import COLOURS, LABELS, REPOSITORY
from tests.helpers.runs import Invoke

FORMATS = REPOSITORY / "tests" / "formats" / "conversion"
VERSIONS = [folder.name for folder in sorted(FORMATS.iterdir())]
pytestmark = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def folder(version: str, tmp_path: Path) -> Path:
    """Return a copy of a run folder as that version left it, with figures of a training."""
    run = shutil.copytree(FORMATS / version, tmp_path / "run")
    contract = RunFolder(run).read_contract()
    metrics = {"graph_sha256": contract.graph_sha256, "seconds": {"train": 1.0}}
    (run / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    return run


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_conversion_json_is_read_and_written_as_it_was(folder: Path) -> None:
    path = folder / "conversion.json"
    result = ConversionResult.read(path)
    files.write_json(folder / "copy.json", result.to_json())
    assert (folder / "copy.json").read_bytes() == path.read_bytes()
    assert result.passed
    assert result.comparison
    assert result.layers
    assert result.rejection


def test_summary_shows_it(folder: Path, invoke: Invoke) -> None:
    result = invoke("summary", "--output-dir", folder)
    assert result.exit_code == 0, result.output
    record = read_json(folder / "conversion.json")
    assert f"{record['graph']['accuracy']:.1%}" in result.stdout
    assert f"{record['bytes']['model'] / 1e6:.1f} MB" in result.stdout
    assert f"convert {record['seconds']['convert']:.1f}" in result.stdout
    printed = json.loads(invoke("summary", "--output-dir", folder, "--json").stdout)
    assert list(printed) == ["schema", "bench", "train", "convert"]
    assert (printed["convert"], printed["bench"]) == (record, None)


def test_bench_shows_its_accuracies(folder: Path) -> None:
    record = read_json(folder / "conversion.json")
    scores = {model.name: model.score for model in find_models.models_of_run(folder)}
    assert set(scores) == {"output_graph.pb", "model.tflite", "recipes/int8.tflite"}
    for score in scores.values():
        assert score
        assert score.accuracy == record["model"]["accuracy"]


def test_a_key_of_a_later_version_is_ignored_unless_that_needs_a_newer_reader(
    folder: Path,
) -> None:
    path = folder / "conversion.json"
    record = read_json(path)
    path.write_text(json.dumps({**record, "schema": 2, "later": [1]}), "utf-8")
    assert ConversionResult.read(path).recipe == record["recipe"]
    path.write_text(json.dumps({**record, "schema": 2, "min_reader": 2}), "utf-8")
    with pytest.raises(BadData, match=r"conversion\.json: it needs a reader of version 2"):
        ConversionResult.read(path)


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("agreement", "high", "agreement"),
        ("passed", 1, "passed"),
        ("bytes", {"graph": 1}, "model"),
        ("graph", {"right": 5, "total": 4}, r"graph\.right"),
        ("seconds", {"convert": "long"}, r"seconds\.convert"),
        ("candidates", {}, "candidates"),
        ("rejection", [], "rejection"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    folder: Path, key: str, value: Any, field: str, invoke: Invoke
) -> None:
    path = folder / "conversion.json"
    path.write_text(json.dumps({**read_json(path), key: value}), "utf-8")
    with pytest.raises(BadData, match=rf"conversion\.json: .*{field} is .*run `retrain convert "):
        ConversionResult.read(path)
    assert invoke("summary", "--output-dir", folder).exit_code == 3


def test_keys_that_versions_before_did_not_write_are_missing(folder: Path) -> None:
    path = folder / "conversion.json"
    record = read_json(path)
    optional = ("model_sha256", "rejection", "otherwise", "candidates", "layers", "schema")
    path.write_text(json.dumps({key: record[key] for key in record if key not in optional}))
    result = ConversionResult.read(path)
    assert (result.model_sha256, result.rejection, result.per_channel_dense) == ("", None, None)
    assert (result.comparison, result.layers) == (None, None)
    known = ("rate", "threshold", "photos", "rejected")
    rejection = {key: record["rejection"][key] for key in known}
    path.write_text(json.dumps({**record, "rejection": rejection}))
    older = ConversionResult.read(path).rejection
    assert older
    assert (older.test_photos, older.test_rejected) == (None, None)


@pytest.mark.parametrize("name", ["model.tflite", "recipes/int8.tflite"])
def test_the_model_opens_labels_and_passes_its_goldens(
    folder: Path, name: str, tmp_path: Path, invoke: Invoke
) -> None:
    path = folder / name
    assert path.stat().st_size < 100_000
    file = model_file.read(path)
    assert file.contract.labels == LABELS
    assert len(file.goldens) == 3
    assert check_goldens(Classifier(file)) == []
    photo = tmp_path / "blue.png"
    Image.fromarray(np.full((40, 40, 3), COLOURS["blue"], np.uint8)).save(photo)
    result = invoke("label", photo, "--model", path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["labels"][0] == "blue"
    assert file.contract.reject_threshold
    assert selftest(path).passed
