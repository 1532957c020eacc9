"""Each backbone computes what its source computes; one of each family goes the whole road."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy import model_file
from deploy.contract import Contract
from deploy.image import open_image, to_tensor
from deploy.runtime import Model
from retrain import backbones, tf_graph
from retrain.backbones import Backbone, cost, keras_applications
from retrain.backbones.keras_applications import KerasNetwork
from retrain.backbones.round_kernels import round_kernels
from retrain.data import split
from retrain.data.manifest import read_manifest
from tests.helpers.own_networks import (
    SIDE,
    classic,
    define,
    inception_of_2015,
    keras_model,
    original,
    save,
)
from tests.helpers.photos import LABELS, copy_some
from tests.helpers.random_networks import random_model
from tests.helpers.runs import Invoke

KERAS = {network.name: network for network in keras_applications.NETWORKS}
LITES = [name for name in backbones.NAMES if name not in KERAS]
SMALLEST_OF_KERAS = "mobilenet_v3_small"
# With random weights, accuracy and agreement on three photos say nothing.
NO_GATE = ("--max-accuracy-drop", 100, "--min-agreement", 0, "--max-mean-difference", 1)
SCALE = ("--input-mean", 128, "--input-std", 128)
Array = npt.NDArray[np.float32]


def frozen_graph(folder: Path) -> tuple[object, ...]:
    path = save(define(classic), folder / "mine.pb")
    return ("--graph", path, "--input-size", SIDE, *SCALE)


def saved_model(folder: Path) -> tuple[object, ...]:
    keras_model().export(folder / "mine", verbose=False)
    return ("--graph", folder / "mine", *SCALE)


def keras_file(folder: Path) -> tuple[object, ...]:
    keras_model(shape=(SIDE, SIDE + 8, 1)).save(folder / "mine.keras")  # grey, not square
    return ("--graph", folder / "mine.keras", *SCALE)


def lite_file(folder: Path) -> tuple[object, ...]:
    converter = tf_graph.tensorflow().lite.TFLiteConverter.from_keras_model(keras_model())
    (folder / "mine.tflite").write_bytes(converter.convert())
    return ("--graph", folder / "mine.tflite", *SCALE)


def keras_application(folder: Path) -> tuple[object, ...]:
    random_model(KERAS[SMALLEST_OF_KERAS]).save_weights(folder / "random.weights.h5")
    return ("--architecture", SMALLEST_OF_KERAS, "--weights", folder / "random.weights.h5")


# The smallest EfficientNet-Lite is that of the fixture `converted`.
FAMILIES: list[Callable[[Path], tuple[object, ...]]] = [
    keras_application, frozen_graph, saved_model, keras_file, lite_file,
]  # fmt: skip
# Multiply-adds in millions, the last layer's too: arxiv.org/abs/1801.04381, and 5.7 billion for
# Inception v3 in the form that Keras has.
PUBLISHED = {"mobilenet_v2": 300, "inception_v3": 5_700}
INCEPTION_SIDE = 75
"""Pixels: the smallest side that Inception v3 takes; that of 2015 took 299."""


@dataclass(frozen=True)
class KerasBackbone:
    """A prepared backbone, its model in Keras, and its graph before kernels were rounded."""

    backbone: Backbone
    model: Any
    folded: Any


@pytest.fixture(scope="module")
def few_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 16 of the photos."""
    root = tmp_path_factory.mktemp("few")
    copy_some(photos, root, 6, 5, 5)
    return root


def tensors(photos: Path, backbone: Backbone) -> Array:
    """Return a photo of each class as the network's input."""
    paths = [next((photos / label).iterdir()) for label in LABELS]
    return np.concatenate(
        [to_tensor(open_image(path.read_bytes()), backbone.spec) for path in paths]
    )


@pytest.fixture(scope="module")
def keras_backbone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KerasBackbone]:
    """Yield the network of Keras that the parameter names, with random weights.

    Keras builds it once. Another test reads weights from a file:
    `test_keras_applications.py::test_a_small_network_of_keras_has_the_weights_of_its_file`.
    """
    folder, folded = tmp_path_factory.mktemp("keras"), []
    model = random_model(KERAS[request.param])

    def keep(graph_def: Any) -> Any:
        folded.append(graph_def)
        return round_kernels(graph_def)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KerasNetwork, "read_weights", lambda *_: {})
        patch.setattr(KerasNetwork, "_model", lambda *_, **__: model)
        patch.setattr(KerasNetwork, "_fill", lambda *_: None)
        patch.setattr(backbones, "round_kernels", keep)
        backbone = backbones.load(request.param, folder, folder / "no weights")
    yield KerasBackbone(backbone, model, folded[0])
    shutil.rmtree(folder)


def require_close(rows: npt.NDArray[Any], expected: npt.NDArray[Any], limit: float) -> None:
    """Assert that rows are as expected, but for `limit` of the largest of each row."""
    largest = np.abs(expected).max(axis=1)
    assert np.ptp(expected, axis=0).max() > 0.03 * largest.max(), "all photos look the same to it"
    assert rows.shape == expected.shape
    assert (np.abs(rows - expected).max(axis=1) < limit * largest).all()


def require_same_in_tflite(backbone: Backbone, photos: Path) -> None:
    """Assert that graph and flatbuffer give the same bottlenecks of photos."""
    images = tensors(photos, backbone)
    graph = tf_graph.open_session(backbone.read_graph())
    model = Model(backbone.flatbuffer)
    expected = graph(images)
    assert expected.shape == (len(LABELS), backbone.width)
    require_close(np.stack([model(image[np.newaxis]) for image in images]), expected, 1e-3)


def shapes(graph_def: Any, *operations: str) -> list[list[int | None]]:
    """Return the shapes of the operations' outputs."""
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as imported:
        tf_graph.import_graph(graph_def)
    return [imported.get_tensor_by_name(f"{name}:0").shape.as_list() for name in operations]


@pytest.mark.parametrize("name", LITES)
def test_tflite_gives_the_bottlenecks_of_efficientnet_lite(
    name: str, photos: Path, cache_dir: Path
) -> None:
    require_same_in_tflite(backbones.load(name, cache_dir), photos)


@pytest.mark.parametrize("keras_backbone", KERAS, indirect=True)
def test_tflite_gives_the_bottlenecks_of_keras_networks(
    keras_backbone: KerasBackbone, photos: Path
) -> None:
    require_same_in_tflite(keras_backbone.backbone, photos)


@pytest.mark.parametrize("keras_backbone", KERAS, indirect=True)
def test_folding_keeps_what_keras_computes(keras_backbone: KerasBackbone, photos: Path) -> None:
    network = KERAS[keras_backbone.backbone.name]
    pixels = images = tensors(photos, keras_backbone.backbone)[:2]
    if network.preprocess:
        module = getattr(tf_graph.tensorflow().keras.applications, network.preprocess)
        pixels = module.preprocess_input(images * network.spec.std + network.spec.mean)
    expected = np.asarray(keras_backbone.model(pixels, training=False))
    assert expected.shape == (2, network.width)
    folded = keras_backbone.folded
    require_close(tf_graph.session(folded, tf_graph.BOTTLENECK)(images), expected, 1e-4)
    if network.name in PUBLISHED:
        counted = cost.count(folded).multiply_adds + 1000 * network.width
        assert counted == pytest.approx(PUBLISHED[network.name] * 1e6, rel=0.03)
    operations = {node.name: node.op for node in folded.node}
    assert not [
        node.name
        for node in folded.node
        if node.op == "Mul"
        and operations[node.input[0]] in ("Conv2D", "DepthwiseConv2dNative", "BiasAdd")
        and operations[node.input[1]] == "Const"
    ]


def require_int8_run(run: Path, photo: Path, invoke: Invoke) -> None:
    """Assert that a converted run has consistent files, and that its model labels `photo`."""
    result = invoke("label", photo, "--model", run / "model.tflite", "--json")
    assert result.exit_code == 0, result.output
    prediction = json.loads(result.stdout)
    assert {*prediction["labels"]} == {*LABELS}
    assert sum(prediction["scores"]) == pytest.approx(1, abs=0.02)

    contract = Contract.from_json((run / "contract.json").read_bytes())
    spec = contract.input
    assert contract.labels == LABELS
    file = model_file.read(run / "model.tflite")
    assert file.contract == replace(contract, recipe="int8")
    shape = (spec.height, spec.width, 3)
    ends = shapes(tf_graph.read(run / "output_graph.pb"), tf_graph.INPUT, contract.output)
    assert ends == [[None, *shape], [None, len(LABELS)]]
    model = Model(file.flatbuffer)
    assert (model.input_shape, model.input_dtype) == ((1, *shape), np.uint8)
    assert model.output_width == len(LABELS)
    scale, zero_point = model.input_quantization
    assert (np.float32(scale), zero_point) == (np.float32(1 / spec.std), spec.mean)

    conversion = json.loads((run / "conversion.json").read_text())
    assert conversion["graph"]["total"] == conversion["model"]["total"] >= 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_each_family_goes_the_whole_road(
    family: Callable[[Path], tuple[object, ...]],
    few_photos: Path,
    tmp_path: Path,
    invoke: Invoke,
) -> None:
    run = tmp_path / "run"
    options = (*family(tmp_path), "--cache-dir", tmp_path / "cache")
    result = invoke("bottlenecks", few_photos, *options, "--json")
    assert result.exit_code == 0, result.output
    bottlenecks = json.loads(result.stdout)
    assert bottlenecks["analysed"] == 16
    for command in (
        ("train", few_photos, *options, "--how-many-training-steps", 40),
        ("convert", "--calibration-images", 6, *NO_GATE),
    ):
        result = invoke(*command, "--output-dir", run)
        assert result.exit_code == 0, result.output
    assert json.loads((run / "metrics.json").read_text("utf-8"))["analysed"] == 0
    contract = json.loads((run / "contract.json").read_text("utf-8"))
    assert contract["input"] == bottlenecks["input"]
    require_int8_run(run, next((few_photos / LABELS[0]).iterdir()), invoke)


def test_the_default_network_goes_the_whole_road(
    converted: Path, photos: Path, invoke: Invoke
) -> None:
    require_int8_run(converted, next((photos / LABELS[0]).iterdir()), invoke)


def test_inception_of_2015_keeps_its_function_on_the_whole_road(
    few_photos: Path, tmp_path: Path, invoke: Invoke
) -> None:
    network = inception_of_2015(INCEPTION_SIDE)
    path = save(network, tmp_path / "classify_image_graph_def.pb")
    options = ("--graph", path, "--cache-dir", tmp_path / "cache")
    for command in (
        ("train", few_photos, *options, "--how-many-training-steps", 200),
        ("convert", "--quantize", "float32", "--goldens", 0),
    ):
        result = invoke(*command, "--output-dir", tmp_path)
        assert result.exit_code == 0, result.output
    file = model_file.read(tmp_path / "model.tflite")
    assert (file.contract.input.height, file.contract.recipe) == (INCEPTION_SIDE, "float32")
    run, model = tf_graph.read(tmp_path / "output_graph.pb"), Model(file.flatbuffer)
    assert not {"Mul", "BatchNormWithGlobalNormalization"} & {node.op for node in run.node}
    assert "BatchNormWithGlobalNormalization" in {node.op for node in network.node}
    layer = {
        node.name: tf_graph.tensorflow().make_ndarray(node.attr["value"].tensor)
        for node in run.node
        if node.name in ("final_weights", "final_biases")
    }
    images = np.concatenate(
        [
            to_tensor(open_image(photo.read()), file.contract.input)
            for photo, side in read_manifest(tmp_path / "manifest.csv")
            if side in (split.TESTING, split.VALIDATION)
        ]
    )
    assert len(images) >= 3
    bottlenecks = original(network, "Mul:0", "pool_3/_reshape:0", images)
    logits = bottlenecks @ layer["final_weights"] + layer["final_biases"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    scores = np.stack([model(image[np.newaxis]) for image in images])
    assert np.abs(scores - expected).max() < 1e-3
    assert (expected.max(axis=1) > 0.5).any()
