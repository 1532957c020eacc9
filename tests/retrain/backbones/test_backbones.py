"""Prepare backbones: one network in two forms, intact in the cache, keyed by its cause."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image, to_tensor
from deploy.runtime import Model
from retrain import backbones, tf_graph
from retrain.backbones import Backbone, efficientnet_lite
from retrain.backbones import backbone as preparation
from retrain.backbones.backbone import weights_digest
from retrain.backbones.efficientnet_lite import EfficientNetLite
from retrain.backbones.network import Network, Weights
from tests.helpers.developer_data import FLOWERS, needs_flowers
from tests.helpers.graph_fixtures import predict
from tests.helpers.published_lite0 import published

LITE0 = efficientnet_lite.NETWORKS[0]
DAISY = 985
"""ImageNet's index of the class."""


def test_graph_and_flatbuffer_agree(backbone: Backbone, photos: Path) -> None:
    run = tf_graph.function(tf_graph.read(backbone.graph_path), tf_graph.BOTTLENECK)
    model = Model(backbone.flatbuffer)
    for path in sorted(photos.glob("*/*"))[::20]:
        tensor = to_tensor(open_image(path.read_bytes()), backbone.spec)
        by_graph, by_model = predict(run, tensor)[0], model(tensor)
        assert by_graph.shape == by_model.shape == (backbone.width,) == (1280,)
        assert np.abs(by_graph - by_model).max() < 1e-3 * np.abs(by_graph).max()


@pytest.mark.parametrize("lite", efficientnet_lite.NETWORKS, ids=lambda lite: lite.name)
def test_a_lite_network_uses_all_the_weights_of_its_package(lite: EfficientNetLite) -> None:
    shapes = {
        name: values.shape
        for name, values in lite.read_weights(lite.fetch_weights()).items()
        if not name.startswith("_fc.") and not name.endswith("num_batches_tracked")
    }
    assert {name: values.shape for name, values in lite._random().items()} == shapes


@pytest.mark.parametrize("lite", efficientnet_lite.NETWORKS, ids=lambda lite: lite.name)
@needs_flowers
def test_the_original_layer_still_knows_daisies(lite: EfficientNetLite, cache_dir: Path) -> None:
    weights = lite.read_weights(lite.fetch_weights())
    backbone = backbones.load(lite.name, cache_dir)
    model = Model(backbone.flatbuffer)
    right = 0
    for path in sorted((FLOWERS / "daisy").glob("*.jpg"))[:60]:
        features = model(to_tensor(open_image(path.read_bytes(), backbone.spec), backbone.spec))
        logits = weights["_fc.weight"] @ features + weights["_fc.bias"]
        right += logits.argmax() == DAISY
    assert right >= 42


def test_a_lite_network_gets_what_its_authors_trained_it_with() -> None:
    specs = [lite.spec for lite in efficientnet_lite.NETWORKS]
    assert [(spec.height, spec.width) for spec in specs] == [(224, 224), (240, 240), (260, 260)]
    assert [spec.crop for spec in specs] == pytest.approx([224 / 256, 240 / 272, 260 / 292])
    assert {(spec.mean, spec.std) for spec in specs} == {(127, 128)}


def test_lite_takes_only_the_file_of_its_package(tmp_path: Path) -> None:
    for name, words in (
        ("mine.h5", r"only the \.pth file of the package"),
        ("mine.pth", "SHA-256"),
    ):
        (tmp_path / name).write_bytes(b"weights")
        with pytest.raises(BadData, match=f"{name}.*{words}"):
            backbones.load(LITE0.name, tmp_path, tmp_path / name)


def test_folding_batch_normalization_changes_nothing() -> None:
    weights = LITE0.read_weights(LITE0.fetch_weights())
    y, x = np.mgrid[:224, :224]
    waves = np.stack([np.sin(x / 9), np.sin(y / 17), np.cos((x + y) / 31)], axis=-1)
    waves = waves[np.newaxis].astype(np.float32)
    expected = predict(tf_graph.function(published(weights), tf_graph.BOTTLENECK), waves)
    features = np.asarray(LITE0.features(waves, weights))
    assert np.abs(features - expected).max() < 1e-3 * expected.max()


def test_each_network_can_be_sent_to_a_process() -> None:
    for network in backbones.NETWORKS.values():
        trace = partial(backbones._rounded_graph, network, Path("weights"))
        assert pickle.loads(pickle.dumps(trace)).args == trace.args  # noqa: S301 (our own)


class Tiny(Network):
    """A network of one convolution, registered as `tiny`; counts how often it is built."""

    weights_source = "nowhere"

    def __init__(self) -> None:
        spec = InputSpec(height=16, width=16, crop=None, mean=127, std=128)
        super().__init__("tiny", spec, 8, 0.0, "")
        random = np.random.default_rng(0)
        kernel = random.normal(size=(3, 3, 3, 8)).astype(np.float32)
        vars(self).update(weights={"kernel": kernel}, built=0)

    def installed_weights(self) -> Path:
        """Return where its weights would be."""
        return Path("weights")

    fetch_weights = installed_weights

    def read_weights(self, path: Path) -> Weights:  # noqa: ARG002 (the interface)
        """Return the kernel."""
        return dict(vars(self)["weights"])

    def graph_def(self, weights: Path | None) -> object:  # noqa: ARG002 (the interface)
        """Return a graph to (N, 8)."""
        tf = tf_graph.tensorflow()
        vars(self)["built"] += 1
        kernel = vars(self)["weights"]["kernel"]
        return tf_graph.trace(
            lambda x: tf.reduce_mean(tf.nn.conv2d(x, kernel, 2, "SAME"), [1, 2]),
            (16, 16, 3),
            tf_graph.BOTTLENECK,
        )

    def load(self, cache_dir: Path) -> Backbone:
        """Load it as every backbone is."""
        return backbones.load("tiny", cache_dir)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Tiny:
    network = Tiny()
    monkeypatch.setitem(backbones.NETWORKS, "tiny", network)
    return network


def test_a_backbone_is_prepared_once(tiny: Tiny, tmp_path: Path) -> None:
    first, second = tiny.load(tmp_path), tiny.load(tmp_path)
    assert first == second
    assert vars(tiny)["built"] == 1
    tensor = np.random.default_rng(1).normal(size=(1, 16, 16, 3)).astype(np.float32)
    run = tf_graph.function(tf_graph.read(second.graph_path), tf_graph.BOTTLENECK)
    np.testing.assert_allclose(
        Model(second.flatbuffer)(tensor), predict(run, tensor)[0], rtol=1e-5, atol=1e-6
    )


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("name", ["graph.pb", "model.tflite", "sha256.json"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_file_is_prepared_again(
    tiny: Tiny, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    first = tiny.load(tmp_path)
    damage(first.graph_path.with_name(name))
    second = tiny.load(tmp_path)
    assert vars(tiny)["built"] == 2
    assert second == first
    assert tf_graph.read(second.graph_path) == tf_graph.read(first.graph_path)
    assert tiny.load(tmp_path) == first
    assert vars(tiny)["built"] == 2


def test_a_graph_that_another_program_removes_meanwhile_is_named(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = tf_graph.lite_converter

    def without_graph(path: Path, *arguments: Any) -> Any:
        path.unlink()
        return convert(path, *arguments)

    monkeypatch.setattr(tf_graph, "lite_converter", without_graph)
    with pytest.raises(BadData, match=r"graph\.pb: removed by another program .*: run this again"):
        tiny.load(tmp_path)


def test_other_weights_are_another_backbone(tiny: Tiny, tmp_path: Path) -> None:
    first = tiny.load(tmp_path)
    vars(tiny)["weights"] = {"kernel": vars(tiny)["weights"]["kernel"] * 2}
    second = tiny.load(tmp_path)
    assert vars(tiny)["built"] == 2
    assert second.graph_path != first.graph_path
    assert second.fingerprint != first.fingerprint


def test_the_fingerprint_depends_on_all_that_decides_a_bottleneck(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny.load(tmp_path)
    fingerprints = {backbone.fingerprint, replace(backbone, weights_sha256="0").fingerprint}
    for changed in ({"crop": 0.5}, {"mean": 128}, {"std": 127}, {"width": 17}, {"height": 17}):
        fingerprints.add(replace(backbone, spec=replace(backbone.spec, **changed)).fingerprint)
    monkeypatch.setattr(preparation, "decoder", lambda: "another decoder")
    fingerprints.add(backbone.fingerprint)
    version = preparation._PREPARATION_VERSION
    monkeypatch.setattr(preparation, "_PREPARATION_VERSION", version + 1)
    fingerprints.add(backbone.fingerprint)
    assert len(fingerprints) == 9
    assert replace(backbone, graph_path=Path("elsewhere")).fingerprint in fingerprints


def test_the_digest_of_weights_is_that_of_their_values() -> None:
    random = np.random.default_rng(0)
    square = random.normal(size=(4, 4)).astype(np.float32)
    weights: Weights = {"a": square, "b": np.arange(3)}
    digest = weights_digest(weights)
    assert weights_digest({"a": square.T.copy().T, "b": np.arange(3)}) == digest
    changed_weights: list[Weights] = [
        {"b": np.arange(3), "a": square},
        {"a": square, "c": np.arange(3)},
        {"a": square, "b": np.arange(1, 4)},
        {"a": square, "b": np.arange(3).astype(np.float64).view(np.int64)},
        {"a": square.reshape(2, 8), "b": np.arange(3)},
        {"a": square.view(np.int32), "b": np.arange(3)},
        {"a": square},
    ]
    assert len({digest, *map(weights_digest, changed_weights)}) == 8
