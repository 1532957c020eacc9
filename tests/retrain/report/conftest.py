"""A converted run with a report, for each module that reads it."""

import shutil
from pathlib import Path

import pytest

from retrain.report.write_report import write_report
from retrain.run_folder import RunFolder
from tests.helpers.report_pages import Page


@pytest.fixture(scope="module")
def folder(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a converted run with a report. Not to be changed."""
    run = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(converted, run)
    write_report(RunFolder(run))
    return run


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page.read(folder)
