"""The settings of a run are read from its metrics.json."""

import json
from pathlib import Path

import pytest

from deploy.errors import BadData
from retrain.run_folder import RunFolder
from retrain.settings.training import SplitSettings
from retrain.training.read_run import read_settings
from tests.helpers.runs import Train


def test_a_run_that_names_its_photos_from_another_folder_finds_them(
    tiny: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    options = ("--testing-percentage", 20, "--labels-from", 1)
    run = RunFolder(train(*options, source=Path(tiny.name)).folder)
    record = json.loads(run.metrics.read_text("utf-8"))
    assert record["settings"]["source"]["image_dir"] == str(tiny)
    record["settings"]["source"]["image_dir"] = tiny.name  # as earlier versions wrote it
    run.metrics.write_text(json.dumps(record), "utf-8")
    monkeypatch.chdir("/")
    source, split, labels = read_settings(run)
    assert source.image_dir == tiny
    assert (source.labels_from, labels) == (1, None)
    assert split == SplitSettings(testing_percentage=20.0)


def test_settings_of_wrong_types_are_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_text(json.dumps({"settings": {"source": {"image_dir": 3}, "split": {}}}))
    with pytest.raises(BadData, match="settings cannot be read"):
        read_settings(run)
    run.metrics.write_text(json.dumps({"settings": {"source": {}, "split": {}}}))
    with pytest.raises(BadData, match="image_dir"):
        read_settings(run)


def test_an_adopted_graph_is_no_backbone(tmp_path: Path) -> None:
    """Its photos are analysed by the default network."""
    named = {"image_dir": "/photos", "graph": "/graph.pb", "cache_dir": "/c", "labels_from": None}
    settings = {"source": named, "split": {"testing_percentage": 60.0}}
    record = {"command": "adopt", "labels": ["b", "a"], "settings": settings}
    run = RunFolder(tmp_path)
    run.metrics.write_text(json.dumps(record))
    source, split, labels = read_settings(run)
    assert (source.graph, split.testing_percentage, labels) == (None, 60.0, ("b", "a"))
    run.metrics.write_text(json.dumps({**record, "split_by": "folders"}))
    assert read_settings(run)[1] == SplitSettings()


def test_an_int8_run_gives_its_trunk(tmp_path: Path) -> None:
    source = {"image_dir": "/photos", "extract_precision": "int8", "input_size": [96, 128]}
    source["graph"] = "/graph.pb"
    run = RunFolder(tmp_path)
    run.metrics.write_text(json.dumps({"settings": {"source": source, "split": {}}}))
    assert read_settings(run)[0].trunk is None
    run.trunk.write_bytes(b"trunk")
    assert read_settings(run)[0].trunk == run.trunk
    assert read_settings(run)[0].input_size == (96, 128)
