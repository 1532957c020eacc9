"""The benchmark of training beside busy processes; it does not assert on speed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments import busy, steps


def test_it_measures_prints_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "FEW", 300)
    monkeypatch.setattr(steps, "_TRAIN", steps._TRAIN.replace("import tensorflow\n", ""))
    output = tmp_path / "busy.json"
    options = ["--steps", "20", "--rounds", "1", "--processes", "1", "--json", str(output)]
    result = CliRunner().invoke(busy.main, options)
    assert result.exit_code == 0, result.output
    figures = json.loads(output.read_text("utf-8"))
    assert result.output == busy.table(figures) + "\n"
    (pair,) = figures["pairs"]
    assert pair["quiet_s"] > 0
    assert figures["ratio"] == pytest.approx(pair["busy_s"] / pair["quiet_s"])
    assert (figures["photos"], figures["busy_processes"]) == (300, 1)
