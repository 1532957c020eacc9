"""Test activation maps against what TensorFlow computes of the run's graph."""

from pathlib import Path

import numpy as np
import pytest

from deploy.image import normalise, to_pixels
from deploy.runtime import Model
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.data import split
from retrain.data.photo_pixels import decode
from retrain.frozen_graph import LOGITS
from retrain.report.activation_maps import draw_maps, load_network
from retrain.run_folder import RunFolder
from retrain.settings.source import Source
from retrain.tflite.feature_map import give_feature_map
from tests.helpers.runs import Run


@pytest.mark.parametrize("is_published", [True, False])
def test_maps_are_the_last_feature_map_times_the_columns_of_the_head(
    base: Run, photos: Path, cache_dir: Path, is_published: bool
) -> None:
    contract, graph = RunFolder(base.folder).read_graph()
    network = load_network(graph, Source(photos, cache_dir=cache_dir), is_published)
    assert network
    photo = next(photo for photo, name in base.manifest if name == split.TESTING)
    tensor = normalise(to_pixels(decode(photo, contract.input), contract.input), contract.input)
    maps = network.maps(Model(network.flatbuffer), tensor, (2, 0))
    assert maps.shape == (2, *network.shape[:2])

    message = tf_graph.parse(graph.graph_def)
    (mean,) = (node for node in message.node if node.op == "Mean")
    feature_map = tf_graph.session(message, mean.input[0])(tensor)[0]
    (weights,) = (node for node in message.node if node.name == "final_weights")
    columns = tf_graph.tensorflow().make_ndarray(weights.attr["value"].tensor)[:, [2, 0]]
    direct = np.array([[cell @ columns for cell in row] for row in feature_map])
    np.testing.assert_allclose(maps, direct.transpose(2, 0, 1), atol=1e-3)
    # A logit is the mean of its map, and the bias.
    logits = tf_graph.session(message, LOGITS)(tensor)[0]
    means = maps.mean(axis=(1, 2)) + network.head.bias[[2, 0]]
    np.testing.assert_allclose(means, logits[[2, 0]], atol=1e-3)


def test_a_photo_that_vanished_has_no_map(base: Run, photos: Path, cache_dir: Path) -> None:
    contract, graph = RunFolder(base.folder).read_graph()
    network = load_network(graph, Source(photos, cache_dir=cache_dir), True)
    assert network
    members = [photo for photo, _ in base.manifest[:2]]
    vanished = members[0].__class__(
        Path(members[0].path).with_name("gone.jpg"), "circles", bytes(32)
    )
    chosen = [(vanished, contract.labels[:1]), (members[1], contract.labels[:2])]
    (drawn,) = draw_maps(network, contract.input, contract.labels, chosen)
    assert drawn.photo == members[1]
    assert [uri[:23] for uri in (drawn.picture, *drawn.maps)] == ["data:image/jpeg;base64,"] * 3


def test_a_network_without_a_mean_at_its_end_has_no_map(backbone: Backbone) -> None:
    mapped = give_feature_map(backbone.flatbuffer)
    assert mapped
    flatbuffer, shape = mapped
    assert shape == (7, 7, backbone.width)
    # What ends in the feature map itself does not end in its mean.
    assert give_feature_map(flatbuffer) is None
