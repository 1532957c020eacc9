"""The facts of the photos say of how many photos they are."""

from pathlib import Path

import pytest

from retrain.report import photo_facts
from retrain.report.fact_rows import fact_rows
from retrain.report.photo_book import PhotoBook
from retrain.report.run_inputs import read_inputs
from retrain.run_folder import RunFolder


def test_formats_and_sizes_say_of_how_many_photos_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = read_inputs(RunFolder(folder))
    total = len(inputs.manifest)

    def facts() -> dict[str, str]:
        return {name: text for name, text, _ in fact_rows(inputs, PhotoBook(folder))}

    assert "opened" not in facts()
    monkeypatch.setattr(photo_facts, "_MAX_FILES", total - 1)
    expected = f"{-(-total // 2)} of {total} photos, whose formats and sizes these are"
    assert facts()["opened"] == expected
