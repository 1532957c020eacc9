"""Build networks of keras.applications, and read weights files of every kind."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image, to_tensor
from deploy.runtime import Model
from retrain import backbones, tf_graph
from retrain.backbones import keras_applications, weights_h5
from retrain.backbones.keras_applications import KerasNetwork
from tests.helpers.developer_data import MOBILENET_V2, needs_mobilenet_v2
from tests.helpers.graph_fixtures import predict
from tests.helpers.random_networks import random_model

NETWORKS = {network.name: network for network in keras_applications.NETWORKS}
V2 = NETWORKS["mobilenet_v2"]
SMALL = replace(V2, spec=replace(V2.spec, height=64, width=64))
"""MobileNetV2 for small photos: its weights are those of the published network."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with mobilenet_v2's random weights in every form. Not to be changed."""
    folder = tmp_path_factory.mktemp("weights")
    model = random_model(SMALL, top=True)
    model.save_weights(folder / "full.weights.h5")
    model.save(folder / "full.keras")
    model.save(folder / "full.h5")
    cut = SMALL._model(top=False)
    cut.set_weights(model.get_weights()[: len(cut.weights)])
    cut.save_weights(folder / "cut.weights.h5")
    cut.save(folder / "cut.keras")
    cut.save(folder / "cut.h5")
    np.savez(folder / "expected.npz", *cut.get_weights())
    return folder


def tensors(photos: Path, spec: InputSpec, count: int) -> list[np.ndarray[Any, Any]]:
    paths = sorted(photos.glob("*/*"))[:: 72 // count][:count]
    return [to_tensor(open_image(path.read_bytes()), spec) for path in paths]


# Size, fraction kept, mean and std; and what its authors do to pixels.
AS_TRAINED = {
    "inception_v3": ((299, 0.875, 128, 127.5), "inception_v3"),
    "mobilenet_v2": ((224, 0.875, 128, 127.5), "mobilenet_v2"),
    "mobilenet_v3_small": ((224, 0.875, 128, 128), "mobilenet_v3"),
    "mobilenet_v3_large": ((224, 0.875, 128, 128), "mobilenet_v3"),
    "efficientnet_v2_b0": ((224, 0.875, 128, 128), "efficientnet_v2"),
    "resnet50": ((224, 0.875, 128, 128), "resnet"),
    "nasnet_mobile": ((224, 0.875, 128, 127.5), "nasnet"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gets_what_its_authors_trained_it_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, (expected, module) = NETWORKS[name].spec, AS_TRAINED[name]
    assert (spec.height, spec.crop, spec.mean, spec.std) == expected
    assert (spec.width, spec.order, spec.filter) == (spec.height, "RGB", "bicubic")

    monkeypatch.setattr(KerasNetwork, "_model", lambda *_, **__: lambda images, **_: images)
    run = tf_graph.function(NETWORKS[name].frozen(None), tf_graph.BOTTLENECK)
    shape = (1, spec.height, spec.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    images = predict(run, (pixels - np.float32(spec.mean)) / np.float32(spec.std))
    preprocess = getattr(tf_graph.tensorflow().keras.applications, module).preprocess_input
    half_a_level = 0.5 / 127.5 if spec.std == 127.5 else 0
    assert np.abs(images - preprocess(pixels.copy())).max() < half_a_level + 1e-3


@pytest.fixture(scope="module")
def empty() -> Any:
    """Return mobilenet_v2 without weights of its own."""
    return SMALL._model(top=False)


@pytest.mark.parametrize(
    "name",
    [f"{layers}{end}" for layers in ("cut", "full") for end in (".weights.h5", ".h5", ".keras")],
)
def test_every_form_of_weights_gives_the_same_network(folder: Path, name: str, empty: Any) -> None:
    model = empty
    model.set_weights([np.zeros_like(values) for values in model.get_weights()])
    SMALL._fill(model, folder / name)
    expected = np.load(folder / "expected.npz")
    for i, values in enumerate(model.get_weights()):
        np.testing.assert_array_equal(values, expected[f"arr_{i}"])
    assert len(expected) == len(model.weights)
    assert SMALL.read_weights(folder / name)


def cut_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("not weights")


def nothing(path: Path) -> None:
    path.unlink()


def empty_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")


@pytest.mark.parametrize("end", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("damage", [cut_file, text, nothing, empty_archive])
def test_a_damaged_weights_file_is_named(
    folder: Path, tmp_path: Path, end: str, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / f"mine{end}"
    path.write_bytes((folder / f"cut{end}").read_bytes())
    damage(path)
    with pytest.raises(BadData, match="mine"):
        backbones.load(V2.name, tmp_path, path)


def test_another_networks_weights_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"full\.h5: not weights of mobilenet_v3_small"):
        backbones.load("mobilenet_v3_small", tmp_path, folder / "full.h5")


def test_weights_have_a_limit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_h5, "_MAX_BYTES", 1_000_000)
    for name in ("cut.h5", "cut.keras"):
        with pytest.raises(BadData, match=f"{name}.*1,000,000"):
            backbones.load(V2.name, tmp_path, folder / name)


def test_tensors_may_not_be_in_other_files(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "mine.h5"
    (tmp_path / "other").write_bytes(bytes(40))
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (10,), "f4", external=[(str(tmp_path / "other"), 0, 40)])
    with pytest.raises(BadData, match=r"mine\.h5.*other files"):
        weights_h5.read_weights(path)


@pytest.mark.parametrize("target", ["other.h5", None])
def test_weights_may_not_be_links(tmp_path: Path, target: str | None) -> None:
    """Keras would follow them, past the limit of bytes and the digest."""
    import h5py

    path = tmp_path / "mine.weights.h5"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = [1.0]
    with h5py.File(path, "w") as file:
        file["layer/a"] = [2.0]
        file["layer/same"] = file["layer/a"]
    assert len(weights_h5.read_weights(path)) == 1
    with h5py.File(path, "a") as file:
        file["layer/b"] = h5py.ExternalLink(target, "a") if target else h5py.SoftLink("/layer/a")
    with pytest.raises(BadData, match=r"mine\.weights\.h5.*other files"):
        weights_h5.read_weights(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"mine\.pkl.*\.weights\.h5"):
        backbones.load(V2.name, tmp_path, tmp_path / "mine.pkl")


@pytest.mark.parametrize("name", ["mobilenet_v2", "nasnet_mobile"])
def test_without_a_network_the_error_says_what_to_fetch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras_applications, "_ADDRESS", "http://127.0.0.1:9/keras/")
    with pytest.raises(BadData) as caught:
        backbones.load(name, tmp_path)
    file = NETWORKS[name].address
    assert f"http://127.0.0.1:9/keras/{file}" in str(caught.value)
    assert f"pass {file.split('/')[1]} as `weights`" in str(caught.value)


def test_a_small_network_of_keras_has_the_weights_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = NETWORKS["mobilenet_v3_small"]
    small = replace(large, spec=replace(large.spec, height=32, width=32))
    monkeypatch.setitem(backbones.NETWORKS, small.name, small)
    monkeypatch.setattr(backbones, "round_kernels", lambda graph_def: graph_def)
    weights, model = tmp_path / "random.weights.h5", random_model(small)
    model.save_weights(weights)
    backbone = backbones.load(small.name, tmp_path, weights)
    tensor = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    pixels = tensor * small.spec.std + small.spec.mean
    expected = np.asarray(model(pixels, training=False))[0]
    assert expected.shape == (small.width,)
    for features in (
        Model(backbone.flatbuffer)(tensor),
        tf_graph.open_session(backbone.read_graph())(tensor)[0],
    ):
        assert np.abs(features - expected).max() < 1e-3 * np.abs(expected).max()


@needs_mobilenet_v2
def test_the_real_weights_give_plausible_features(photos: Path, cache_dir: Path) -> None:
    backbone = backbones.load(V2.name, cache_dir, MOBILENET_V2)
    model = Model(backbone.flatbuffer)
    features = np.stack([model(tensor) for tensor in tensors(photos, V2.spec, 12)])
    assert features.min() >= 0
    assert features.max() <= 6
    assert 0.2 < features.mean() < 1
