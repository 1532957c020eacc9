"""Backbones as users get them: prepared in processes of their own, as no other test does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime import Model
from retrain import backbones, isolated, tf_graph
from retrain.backbones import Backbone, keras_applications
from retrain.backbones.custom.load import load_own
from tests.helpers.graph_fixtures import predict
from tests.helpers.own_networks import SIDE, classic, define, save


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "run_isolated", isolated.run_isolated)


def require_whole(backbone: Backbone, width: int) -> None:
    """Assert that graph and flatbuffer give the same bottlenecks."""
    side = backbone.spec.height
    tensor = np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype(np.float32)
    run = tf_graph.function(tf_graph.read(backbone.graph_path), tf_graph.BOTTLENECK)
    found, expected = Model(backbone.flatbuffer)(tensor), predict(run, tensor)[0]
    assert found.shape == (width,)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_network_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (large,) = (each for each in keras_applications.NETWORKS if each.name == "mobilenet_v3_small")
    small = replace(large, spec=replace(large.spec, height=SIDE, width=SIDE))
    monkeypatch.setitem(backbones.NETWORKS, small.name, small)
    weights = tmp_path / "random.weights.h5"
    small._model(top=False).save_weights(weights)
    require_whole(backbones.load(small.name, tmp_path, weights), small.width)


def test_a_network_of_the_users_own(tmp_path: Path) -> None:
    path = save(define(classic), tmp_path / "mine.pb")
    require_whole(load_own(path, "Mul", "pool_3/_reshape", SIDE, 128.0, 128.0, tmp_path), 16)
