"""The page of a run without a model, photos or a cache shows what is left, and the reason."""

import json
import shutil
from pathlib import Path

import pytest

from retrain.progress import Progress
from retrain.report.write_report import write_report
from retrain.run_folder import RunFolder
from tests.helpers.photos import LABELS
from tests.helpers.report_pages import Page
from tests.helpers.runs import Invoke, Train


def test_a_run_without_a_model_says_how_to_make_one(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    write_report(RunFolder(run))
    page = Page.read(run)
    assert f"retrain convert --output-dir {run}" in [code.text for code in page.named("code")]
    assert len([p for p in page.named("p") if p.attributes.get("class") == "big"]) == 1


def test_a_class_without_test_photos_has_dashes(train: Train) -> None:
    run = train("--test-batch-size", 2).folder
    write_report(RunFolder(run))
    page = Page.read(run)
    tested = {photo["label"] for photo in page.gallery("Test photos")}
    assert 1 <= len(tested) < len(LABELS)
    assert "A dash: no photo of the class was tested." in page.html
    rows = [element.text for element in page.named("tr")]
    for label in LABELS:
        total = len(page.gallery(f"{label}: photos for testing"))
        count = sum(photo["label"] == label for photo in page.gallery("Test photos"))
        assert count < total
        assert [
            row for row in rows if row.startswith(f"{label}{total}, {count} tested{count or 0}")
        ]
    for label in set(LABELS) - tested:
        assert [row for row in rows if row.startswith(label) and "\u2013" in row]


def test_photos_that_are_gone_leave_the_figures(train: Train, photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    run = RunFolder(train(source=source).folder)
    shutil.rmtree(source)
    write_report(run)
    page = Page.read(run.folder)
    assert page.data["galleries"]
    assert not [photo for photo in page.data["photos"] if "picture" in photo]
    assert "The photos could not be examined:" in page.html
    assert not run.learning_curve.exists()


def test_a_run_of_an_earlier_version_is_refused_with_the_remedy(
    trained: Path, tmp_path: Path, invoke: Invoke
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "predictions.parquet").unlink()
    result = invoke("report", "--output-dir", run)
    assert result.exit_code == 3, result.output
    command = f"retrain train DIR --output-dir {run}"
    assert f"predictions.parquet: no predictions of this graph: run `{command}`" in result.stderr


def test_a_cache_that_cannot_be_made_leaves_a_page_with_the_reason(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(trained, run.folder)
    for path in (run.doctor, run.learning_curve):
        path.unlink(missing_ok=True)
    metrics = json.loads(run.metrics.read_text("utf-8"))
    (tmp_path / "file").write_text("")
    metrics["settings"]["source"]["cache_dir"] = str(tmp_path / "file" / "cache")
    run.metrics.write_text(json.dumps(metrics), "utf-8")
    write_report(run, Progress())
    assert "the photos could not be examined: " in capsys.readouterr().err
    assert "cache folder of the run" in run.report.read_text("utf-8")
