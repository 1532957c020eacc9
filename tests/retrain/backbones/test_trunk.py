"""Prepare the trunk below a cut: a backbone whose bottlenecks are feature maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.image import open_image, to_pixels, to_tensor
from deploy.runtime import Model
from retrain import backbones, tf_graph
from retrain.backbones import Backbone
from retrain.backbones import backbone as preparation
from retrain.backbones.cut_points import CutPoint, choose_cut_point, find_cut_points
from retrain.backbones.trunk import load_trunk
from retrain.bottlenecks.engine import EngineChoice, tensorflow
from retrain.bottlenecks.extract import extract
from retrain.data.photo_folder import scan
from retrain.progress import Progress
from tests.helpers import lite_fixtures, own_networks

NETWORK = "efficientnet_lite0"
Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def points(backbone: Backbone) -> tuple[CutPoint, ...]:
    return find_cut_points(tf_graph.read(backbone.graph_path))


@pytest.fixture(scope="module")
def point(points: tuple[CutPoint, ...]) -> CutPoint:
    return choose_cut_point(points, None)


@pytest.fixture(scope="module")
def trunk(backbone: Backbone, point: CutPoint, cache_dir: Path) -> Backbone:
    return load_trunk(backbone, point, cache_dir)


@pytest.fixture(scope="module")
def tensors(photos: Path, backbone: Backbone) -> Array:
    paths = sorted(photos.glob("*/*"))[::24]
    images = (open_image(path.read_bytes(), backbone.spec) for path in paths)
    return np.concatenate([to_tensor(image, backbone.spec) for image in images])


def by_tensorflow(backbone: Backbone, tensors: Array) -> Array:
    return tf_graph.open_session(backbone.read_graph())(tensors)


def top(backbone: Backbone, point: CutPoint, maps: Array) -> Array:
    """Return what the backbone's graph above `point` gives for flattened feature maps."""
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(tf_graph.read(backbone.graph_path))
    with tf.compat.v1.Session(graph=graph) as session:
        fed: dict[str, Any] = {f"{point.name}:0": maps.reshape(-1, *point.shape)}
        return np.asarray(session.run(f"{tf_graph.BOTTLENECK}:0", fed))


def test_random_weights_have_the_cuts_of_the_real_network(points: tuple[CutPoint, ...]) -> None:
    # `retrain backbones --cuts` lists those, `load_trunk` takes these.
    assert find_cut_points(backbones.NETWORKS[NETWORK].graph_def(None)) == points


def test_graph_and_flatbuffer_of_a_trunk_agree(
    trunk: Backbone, point: CutPoint, tensors: Array
) -> None:
    model = Model(trunk.flatbuffer)
    by_model = np.stack([model(tensor[np.newaxis]) for tensor in tensors])
    by_graph = by_tensorflow(trunk, tensors)
    assert by_graph.shape == by_model.shape == (len(tensors), point.width) == (3, 14 * 14 * 80)
    assert trunk.width == point.width
    assert np.abs(by_graph - by_model).max() < 1e-3 * np.abs(by_graph).max()


def test_the_top_makes_the_bottlenecks_of_the_trunks_maps(
    backbone: Backbone, trunk: Backbone, point: CutPoint, tensors: Array
) -> None:
    maps, expected = by_tensorflow(trunk, tensors), by_tensorflow(backbone, tensors)
    assert np.abs(top(backbone, point, maps) - expected).max() < 1e-4 * expected.max()
    rounded = maps.astype(np.float16).astype(np.float32)
    assert np.abs(top(backbone, point, rounded) - expected).max() < 1e-2 * expected.max()


def test_feature_maps_are_extracted_as_bottlenecks_are(
    trunk: Backbone, backbone: Backbone, tiny: Path, tmp_path: Path
) -> None:
    engines = EngineChoice("tflite", tmp_path)
    dataset = scan(tiny).photos
    extracted = extract(dataset, trunk, engines, tmp_path, Progress())
    maps = extracted.store.take(extracted.rows[:, 0])
    run = tensorflow(trunk).make()
    images = [open_image(photo.path.read_bytes(), trunk.spec) for photo in extracted.photos]
    expected = run(np.concatenate([to_pixels(image, trunk.spec) for image in images]))
    assert maps.shape == (8, trunk.width)
    assert np.abs(maps - expected).max() < 2e-3 * np.abs(expected).max()
    assert extract(dataset, trunk, engines, tmp_path, Progress()).analysed == 0
    assert extract(dataset, backbone, engines, tmp_path, Progress()).analysed == 8


def test_a_trunk_is_prepared_once(
    backbone: Backbone, trunk: Backbone, point: CutPoint, cache_dir: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "run_isolated", None)
        assert load_trunk(backbone, point, cache_dir) == trunk


def test_each_cut_has_a_folder_and_a_fingerprint(
    backbone: Backbone, trunk: Backbone, points: tuple[CutPoint, ...], cache_dir: Path
) -> None:
    other = load_trunk(backbone, points[0], cache_dir)
    assert other.width == points[0].width != trunk.width
    assert len({backbone.graph_path, trunk.graph_path, other.graph_path}) == 3
    assert len({backbone.fingerprint, trunk.fingerprint, other.fingerprint}) == 3


def frozen_graph(folder: Path) -> Path:
    return own_networks.save(own_networks.define(own_networks.classic), folder / "mine.pb")


def keras_file(folder: Path) -> Path:
    path = folder / "mine.keras"
    own_networks.keras_model().save(path)
    return path


def tflite_file(folder: Path) -> Path:
    return lite_fixtures.write(folder / "mine.tflite", lite_fixtures.network())


@pytest.mark.parametrize("write", [frozen_graph, keras_file, tflite_file])
def test_a_network_of_ones_own_has_a_trunk(write: Callable[[Path], Path], tmp_path: Path) -> None:
    backbone = own_networks.load(write(tmp_path), tmp_path)
    (point, *_) = points = find_cut_points(tf_graph.read(backbone.graph_path))
    assert choose_cut_point(points, None) in points
    trunk = load_trunk(backbone, point, tmp_path)
    shape = (2, own_networks.SIDE, own_networks.SIDE, 3)
    tensors = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    maps, expected = by_tensorflow(trunk, tensors), by_tensorflow(backbone, tensors)
    np.testing.assert_allclose(Model(trunk.flatbuffer)(tensors[:1]), maps[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(top(backbone, point, maps), expected, rtol=1e-4, atol=1e-5)
