"""The bench of unknown photos: its figures, and what it asks of the product."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bench.experiments import unknown
from bench.experiments.unknown import Found, assess, auroc


def found(scores: list[float], threshold: float = 0.5) -> Found:
    values = np.array(scores)
    return Found(values, values < threshold)


@pytest.mark.parametrize(
    ("known", "others", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2], 1.0),
        ([0.1, 0.2], [0.9, 0.8], 0.0),
        ([0.5, 0.5], [0.5], 0.5),
        ([0.9, 0.3], [0.1, 0.5], 0.75),
    ],
)
def test_auroc_is_how_often_the_known_photo_scores_higher(
    known: list[float], others: list[float], expected: float
) -> None:
    assert auroc(np.array(known), np.array(others)) == expected


def test_false_accepts_are_counted_where_95_percent_are_accepted() -> None:
    known = found([i / 100 for i in range(1, 101)])
    row = assess(known, found([0.04, 0.05, 0.06, 0.99]))
    # 0.06 to 1.00 are 95 of 100, but a quantile lies on a photo: 0.05 is accepted too.
    assert row["false_accept_at_95"] == 0.75
    assert row["rule"] == {"true_accept": 0.51, "false_accept": 0.25}
    assert (row["known"], row["unknown"]) == (100, 4)


def test_each_data_set_is_held_against_the_other_and_each_class_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, labels in {"shapes": "abc", "others": "de"}.items():
        for label in labels:
            (tmp_path / name / label).mkdir(parents=True)
            (tmp_path / name / label / "photo.png").write_bytes(b"a photo")
    trained: list[list[str]] = []
    labelled: list[list[str]] = []

    def product(command: str, *options: str) -> Any:
        """Stand for `retrain`, which the tests of the product train and convert with."""
        if command == "train":
            trained.append(sorted(each.name for each in Path(options[0]).iterdir()))
            run = Path(options[options.index("--output-dir") + 1])
            with (run / "manifest.csv").open("w", newline="") as stream:
                rows = csv.writer(stream)
                rows.writerows([["path", "split"], ["t.png", "testing"], ["v.png", "validation"]])
        else:
            assert options[-2:] == ("--reject-rate", "0.1")
        return {"model": {"accuracy": 0.9}, "rejection": {"threshold": 0.5}}

    def label(_model: str, photos: list[str]) -> Found:
        labelled.append(photos)
        return found([0.9] if photos == ["t.png"] else [0.1, 0.95])

    monkeypatch.setattr(unknown, "retrain", product)
    monkeypatch.setattr(unknown, "_label", label)
    saved = tmp_path / "unknown.json"
    folders = [str(tmp_path / "shapes"), str(tmp_path / "others")]
    options = [*folders, "--reject-rate", "0.1", "--json", str(saved)]
    result = CliRunner().invoke(unknown.main, options)
    assert result.exit_code == 0, result.output
    assert trained == [["a", "b", "c"], ["d", "e"], ["b", "c"], ["a", "c"], ["a", "b"]]
    assert [Path(photos[0]).name for photos in labelled[1::2]] == ["others", "shapes", *"abc"]
    assert labelled[::2] == [["t.png"]] * 5
    rows = json.loads(saved.read_text("utf-8"))["rows"]
    assert [row["auroc"] for row in rows] == [0.5] * 5
    assert "mean without a class" in result.stdout
