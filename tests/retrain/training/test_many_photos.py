"""What is left out of a run above a bound is said in one line, and the run is written."""

from pathlib import Path

import pytest

from retrain.report import run_inputs
from retrain.training import train as train_module
from tests.helpers.runs import Invoke, Train


def test_what_many_photos_do_not_get_is_said(
    train: Train, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = train(folder=tmp_path / "few")
    assert "copies_across_splits" in few.metrics
    for module in (train_module, run_inputs):
        monkeypatch.setattr(module, "MAX_EXAMINED", 9)
    many = train(folder=tmp_path / "many")
    assert "at most 9 are" in many.result.stderr
    assert "copies_across_splits" not in many.metrics
    assert many.metrics["graph_sha256"] == few.metrics["graph_sha256"]
    result = invoke("report", "--output-dir", many.folder)
    assert result.exit_code == 2
    assert "at most 9 are shown in a report" in result.stderr
