"""The commands of the page keep the options of the run, and settings are called as options."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from retrain.report import findings, learning_curve
from retrain.report.commands import choose_command, fine_tune_command
from retrain.report.learning_curve import LearningCurve, LearningPoint
from retrain.report.run_inputs import read_inputs
from retrain.report.write_report import write_report
from retrain.run_folder import RunFolder
from retrain.settings.training import HeadSettings
from tests.helpers.photos import LABELS
from tests.helpers.report_pages import Page
from tests.helpers.runs import FEW_CALIBRATION_IMAGES, STEPS, Train


@pytest.fixture(scope="module")
def with_options(train: Train) -> RunFolder:
    """Return a run with options that its next training needs too."""
    source = ("--labels-from", 1, "--split-salt", "two words", "--testing-percentage", 20)
    return RunFolder(train(*source, "--class-weight", "balanced", "--seed", 3).folder)


def test_the_command_to_fine_tune_keeps_the_options_of_the_run(
    with_options: RunFolder, photos: Path, cache_dir: Path
) -> None:
    words = (
        f"retrain train {photos} --fine-tune --cache-dir {cache_dir} --labels-from 1 "
        f"--testing-percentage 20 --salt --how-many-training-steps {STEPS} "
        f"--class-weight balanced --seed 3 --output-dir {with_options.folder}"
    )
    words = words.replace("--salt", "--split-salt 'two words'")
    assert fine_tune_command(read_inputs(with_options)) == words


def test_the_learning_curve_weighs_classes_as_the_training(
    with_options: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, measured = with_options, []

    def measure(data: Any, settings: HeadSettings, graph_sha256: str) -> LearningCurve:
        measured.append((settings.class_weight, settings.seed))
        counts = (1,) * len(data.labels)
        return LearningCurve(graph_sha256, data.labels, counts, (LearningPoint(1, counts),) * 2)

    monkeypatch.setattr(learning_curve, "measure", measure)
    write_report(run)
    assert measured == [("balanced", 3)]


def test_the_commands_to_convert_keep_the_options_of_the_last_time(
    folder: Path, page: Page
) -> None:
    last = f"--calibration-images {FEW_CALIBRATION_IMAGES[1]} --output-dir {folder}"
    codes = [code.text for code in page.named("code")]
    assert f"retrain convert --reject-rate 0.05 {last}" in codes
    assert choose_command(read_inputs(RunFolder(folder))) == f"retrain convert --choose {last}"
    assert f"retrain doctor {folder} --apply photos-to-set-aside.txt" in codes


def test_stored_commands_name_the_run_where_it_is(
    folder: Path, photos: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(folder, run.folder)
    record = json.loads(run.doctor.read_text("utf-8"))
    photo = {"path": str(photos / LABELS[0] / "00.jpg"), "label": LABELS[0], "reason": "dark"}
    words = dict.fromkeys(("title", "reason", "remedy"), "text")
    stored = {**words, "kind": "dark", "command": "retrain doctor run", "suggested": 1}
    run.doctor.write_text(json.dumps({**record, "findings": [{**stored, "photos": [photo]}]}))
    (finding,) = findings.read(read_inputs(run)) or ()
    command = f"retrain doctor {run.folder} --kind dark --quarantine {photos}-quarantine"
    assert finding.command == command


def test_settings_are_called_as_the_options_of_train(folder: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(folder, tmp_path / "run"))
    metrics = json.loads(run.metrics.read_text("utf-8"))
    run.metrics.write_text(json.dumps({**metrics, "warnings": ["use `labels_from` 2, of `me`"]}))
    record = json.loads(run.doctor.read_text("utf-8"))
    words = {"kind": "imbalance", "title": "rare", "photos": [], "reason": "`seed` is 0"}
    remedy = {"remedy": "train with `class_weight` balanced"}
    run.doctor.write_text(json.dumps({**record, "findings": [{**words, **remedy}]}))
    write_report(run)
    texts = [element.text for element in Page.read(run.folder).named("bdi")]
    assert "use --labels-from 2, of `me`" in texts
    assert {"--seed is 0", "train with --class-weight balanced"} <= set(texts)
