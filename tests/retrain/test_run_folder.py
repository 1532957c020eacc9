"""Test that the files of a run are read by type and version, and by their contract."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.contract import Contract
from deploy.errors import BadData
from retrain.frozen_graph import FrozenGraph
from retrain.metrics import Accuracy
from retrain.run_folder import RunFolder

BEFORE = Path(__file__).parents[1] / "formats" / "training" / "before_issue_16"
"""Files of a run that the version before issue 16 wrote."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a copy of the run of the version before, without its graph."""
    for name in ("contract.json", "metrics.json", "output_labels.txt"):
        shutil.copy(BEFORE / name, tmp_path)
    return RunFolder(tmp_path)


@pytest.fixture
def contract(run: RunFolder) -> Contract:
    return Contract.from_json(run.contract.read_bytes())


Values = dict[str, Any]


def change(run: RunFolder, edit: Callable[[Values], object]) -> None:
    values = json.loads(run.metrics.read_text("utf-8"))
    edit(values)
    run.metrics.write_text(json.dumps(values), "utf-8")


def test_metrics_written_before_issue_16_are_read(run: RunFolder, contract: Contract) -> None:
    assert contract.labels == ("none", "żółw ☀")
    assert run.test_accuracy(contract) == Accuracy(2, 2)


def test_metrics_of_another_graph_are_not_used(run: RunFolder, contract: Contract) -> None:
    assert run.test_accuracy(replace(contract, graph_sha256="0" * 64)) is None
    run.metrics.unlink()
    assert run.test_accuracy(contract) is None


def test_metrics_of_a_later_version_are_read(run: RunFolder, contract: Contract) -> None:
    change(run, lambda values: values.update(schema=7, min_reader=1, new={"unknown": 1}))
    change(run, lambda values: values["test"].update(unknown=1))
    assert run.test_accuracy(contract) == Accuracy(2, 2)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda values: values.update(min_reader=2), "reader of version 2"),
        (lambda values: values.pop("test"), "test is missing"),
        (lambda values: values["test"].update(right="2"), "test.right"),
        (lambda values: values["test"].update(right=3), "test.right is 3"),
        (lambda values: values["test"].update(right=-1), "test.right is -1"),
        (lambda values: values["test"].update(total=0), "test.total is 0"),
        (lambda values: values["test"].update(total=2.5), "test.total is 2.5"),
        (lambda values: values["test"].update(per_class=["none"]), "test.per_class"),
        (lambda values: values["test"].update(per_class={"none": {}}), "its labels are none"),
        (lambda values: values.pop("graph_sha256"), "graph_sha256 is missing"),
    ],
)
def test_wrong_metrics_are_refused(
    edit: Callable[[Values], object], problem: str, run: RunFolder, contract: Contract
) -> None:
    change(run, edit)
    with pytest.raises(BadData) as error:
        run.test_accuracy(contract)
    assert str(run.metrics) in str(error.value)
    assert problem in str(error.value)


def test_a_graph_is_read_with_its_contract(run: RunFolder, contract: Contract) -> None:
    with pytest.raises(BadData, match=f"run `retrain train DIR --output-dir {run.folder}` first"):
        run.read_graph()
    run.graph.write_bytes(b"another graph")
    with pytest.raises(BadData, match=r"not the graph that .*contract.json describes"):
        run.read_graph()
    graph = FrozenGraph(b"another graph", contract.input, contract.output)
    contract = replace(contract, graph_sha256=graph.sha256)
    run.contract.write_text(contract.to_json(), "utf-8")
    assert run.read_graph() == (contract, graph)
    assert run.read_contract() == contract
