"""The page on files names every key of real files, of this version and of earlier ones."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.bundle_texts import NAMES
from retrain.backbones.cut_points import CutPoint
from retrain.metrics import Accuracy
from retrain.run_folder import RunFolder
from retrain.training import curves
from retrain.training.checkpoint import _ARRAYS, _NUMBER_KINDS
from retrain.training.compare_networks import Comparison
from retrain.training.fit_top import FineTuneState
from retrain.training.train_top import FineTuning
from tests.docs.conftest import REPOSITORY

FORMATS = REPOSITORY / "tests/formats"
PAGE = (REPOSITORY / "docs/reference/files.md").read_text("utf-8")
FREE_KEYS = frozenset({"settings", "versions", "photos", "per_class", "seconds", "peak_gmacs"})
"""Objects whose keys are settings, packages, labels, stages or numbers of threads."""
RECORDS = (
    "training/before_issue_16/contract.json",
    "training/before_issue_16/metrics.json",
    "conversion/before_issue_16/conversion.json",
    "bench/today.json",
    "run/first_report/metrics.json",
    "run/first_report/conversion.json",
    "run/first_report/doctor.json",
    "run/first_report/learning_curve.json",
)


def section(title: str) -> str:
    """Return the text of a section of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def words(text: str) -> set[str]:
    """Return every name in backquotes; `a.b` names both."""
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}


def keys(value: Any) -> set[str]:
    """Return the keys of all objects in a JSON value."""
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    inner = (keys(member) for name, member in value.items() if name not in FREE_KEYS)
    return set(value).union(*inner)


@pytest.mark.parametrize("path", RECORDS)
def test_every_key_is_described(path: str) -> None:
    record = json.loads((FORMATS / path).read_text("utf-8"))
    title = "bench.json" if path.startswith("bench/") else Path(path).name
    assert keys(record) - words(section(title)) == set()


def test_every_member_of_a_checkpoint_is_described() -> None:
    assert {*_ARRAYS, *_NUMBER_KINDS, curves.MEMBER} <= words(section("checkpoint.npz"))


def test_every_member_of_a_checkpoint_of_fine_tuning_is_described() -> None:
    members = FineTuneState.start([np.zeros(2, np.float32)]).to_members()
    names = {name.partition("/")[0] for name in members}
    assert len(names) > 8
    assert names <= words(section("checkpoint_fine_tuning.npz"))


def test_every_key_of_fine_tuning_is_described() -> None:
    accuracy = Accuracy(1, 2)
    comparison = Comparison(1, 0.0, 0.0, 0.0, 0.0)
    record = FineTuning(CutPoint("add", (1,), 0.5, 1), 1, 1, 1, comparison, accuracy, accuracy)
    assert keys(record.to_json()) - words(section("metrics.json")) == set()


def test_every_file_of_a_run_and_of_a_bundle_is_named() -> None:
    run = RunFolder(Path("run"))
    properties = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]
    names = [getattr(run, name).name for name in properties]
    assert len(names) > 8
    assert not [name for name in names if name not in section("The run folder")]
    assert not [name for name in NAMES if name not in section("The bundle")]
