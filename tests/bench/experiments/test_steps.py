"""The benchmark of training steps, on few photos; it does not assert on speed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.experiments import steps
from deploy.errors import BadData


def test_it_measures_prints_saves_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "FEW", 300)
    output, folder = tmp_path / "steps.json", tmp_path / "disk"
    folder.mkdir()
    options = ["--rows", "2000", "--steps", "40", "--rounds", "1", "--folder", str(folder)]
    result = CliRunner().invoke(steps.main, [*options, "--json", str(output)])
    assert result.exit_code == 0, result.output
    assert list(folder.iterdir()) == []
    figures = json.loads(output.read_text("utf-8"))
    assert result.output == steps.table(figures) + "\n"
    assert figures["machine"]["cores"] > 0
    few, many = (figures["runs"][name][0] for name in ("few", "many"))
    for run in (few, many):
        assert run["ms_per_step"] == pytest.approx(run["fit_s"] / 40 * 1e3)
        assert run["peak_bytes"] >= run["loaded_bytes"] > 50e6
        assert run["validation_accuracy"] > 0.5  # of five classes
    assert figures["ratio"] == pytest.approx(many["fit_s"] / few["fit_s"])
    assert figures["few_s"] == few["fit_s"]
    assert figures["peak_bytes"] == many["peak_bytes"] - figures["import_tensorflow_bytes"]


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="exit code 1: ZeroDivisionError: division by zero"):
        steps._child("1 / 0", tmp_path, 1)
