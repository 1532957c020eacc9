"""Prepare, convert and explain in processes of their own, as users do and no other test does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime import Model
from retrain import backbones, tf_graph
from retrain.backbones import Backbone
from retrain.backbones.keras_applications import KerasNetwork
from tests.helpers.deploy_fixtures import write_colour_run
from tests.helpers.own_networks import SIDE, classic, define, load, save
from tests.helpers.runs import Invoke

pytestmark = pytest.mark.usefixtures("isolated")


def require_whole(backbone: Backbone, width: int) -> None:
    """Assert that graph and flatbuffer give the same bottlenecks."""
    side = backbone.spec.height
    tensor = np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype(np.float32)
    session = tf_graph.open_session(backbone.read_graph())
    row, expected = Model(backbone.flatbuffer)(tensor), session(tensor)[0]
    assert row.shape == (width,)
    assert np.abs(row - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_network_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = backbones.NETWORKS["mobilenet_v3_small"]
    assert isinstance(large, KerasNetwork)
    small = replace(large, spec=replace(large.spec, height=SIDE, width=SIDE))
    monkeypatch.setitem(backbones.NETWORKS, small.name, small)
    weights = tmp_path / "random.weights.h5"
    small._model(top=False).save_weights(weights)
    require_whole(backbones.load(small.name, tmp_path, weights), small.width)


def test_a_network_of_the_users_own(tmp_path: Path) -> None:
    path = save(define(classic), tmp_path / "mine.pb")
    require_whole(load(path, tmp_path, "Mul", "pool_3/_reshape"), 16)


def test_a_conversion_that_explains_its_layers(tmp_path: Path, invoke: Invoke) -> None:
    run = write_colour_run(tmp_path)
    result = invoke("convert", "--output-dir", run, "--explain")
    assert result.exit_code == 0, result.output
    record = json.loads((run / "conversion.json").read_text("utf-8"))
    assert (record["recipe"], record["agreement"]) == ("int8", 1)
    assert record["layers"]
