"""Every family of backbones, at its true size, goes the whole road through the command line."""

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
from deploy.contract import Contract, InputSpec
from deploy.image import open_image, to_tensor
from deploy.runtime import Model
from retrain import backbones, tf_graph
from retrain.backbones import cost, keras_applications
from retrain.backbones.round_kernels import round_kernels
from retrain.data import split
from retrain.data.manifest import read_manifest
from tests.conftest import LABELS, Invoke
from tests.helpers.own_networks import (
    SIDE,
    classic,
    define,
    inception_of_2015,
    keras_model,
    original,
    save,
)
from tests.helpers.random_networks import random_model

KERAS = {network.name: network for network in keras_applications.NETWORKS}
LITES = [name for name in backbones.NAMES if name not in KERAS]
# With weights of chance, accuracy and agreement on three photos say nothing.
ANY = ("--max-accuracy-drop", 100, "--min-agreement", 0, "--max-mean-difference", 1)
SCALE = ("--input-mean", 128, "--input-std", 128)


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


OWN: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "frozen_graph": frozen_graph,
    "saved_model": saved_model,
    "keras_file": keras_file,
    "lite_file": lite_file,
}
# Those of Keras first: what runs on them alone then shares their fixture.
FAMILIES = [*KERAS, *LITES, *OWN]

# Multiply-adds in millions, the last layer's too: arxiv.org/abs/1801.04381, and 5.7 billion for
# Inception v3 in the form that Keras has.
PUBLISHED = {"mobilenet_v2": 300, "inception_v3": 5_700}


@dataclass(frozen=True)
class Family:
    """A backbone that `retrain bottlenecks` has prepared, and 16 photos for it.

    `options` name it on the command line. `keras` is the network as Keras has it, and `folded` its
    graph before kernels were rounded, both None for what is no network of Keras.
    """

    options: tuple[object, ...]
    spec: InputSpec
    graph_path: Path
    tensors: npt.NDArray[np.float32]
    keras: Any = None
    folded: Any = None


@pytest.fixture(scope="module")
def few_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 16 of the photos."""
    root = tmp_path_factory.mktemp("few")
    for label, count in zip(LABELS, (6, 5, 5), strict=True):
        (root / label).mkdir()
        for path in sorted((photos / label).iterdir())[:count]:
            shutil.copy(path, root / label)
    return root


@pytest.fixture(scope="module")
def family(
    request: pytest.FixtureRequest,
    few_photos: Path,
    cache_dir: Path,
    invoke: Invoke,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Family]:
    """Yield the family that the parameter names. Weights that are in no package are random."""
    name, folder = request.param, tmp_path_factory.mktemp("family")
    model, folded = None, []
    options: tuple[object, ...] = ("--architecture", name)
    if name in OWN:
        options = OWN[name](folder)
    elif name in KERAS:
        model = random_model(KERAS[name])
        model.save_weights(folder / "random.weights.h5")
        options += ("--weights", folder / "random.weights.h5")
    options += ("--cache-dir", cache_dir, "--bottleneck-dir", folder / "bottlenecks")

    def keep(graph_def: Any) -> Any:
        folded.append(graph_def)
        return round_kernels(graph_def)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "round_kernels", keep)
        result = invoke("bottlenecks", few_photos, *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["analysed"] == 16
    spec = InputSpec(**found["input"])
    images = (open_image(path.read_bytes()) for path in sorted(few_photos.glob("*/*")))
    tensors = np.concatenate([to_tensor(image, spec) for image in images])
    yield Family(options, spec, Path(found["graph"]), tensors, model, *(folded if model else ()))
    shutil.rmtree(folder)


def require_close(found: npt.NDArray[Any], expected: npt.NDArray[Any], limit: float) -> None:
    """Assert that rows are as expected, but for `limit` of the largest of each row."""
    largest = np.abs(expected).max(axis=1)
    assert np.ptp(expected, axis=0).max() > 0.03 * largest.max(), "all photos look the same to it"
    assert found.shape == expected.shape
    assert (np.abs(found - expected).max(axis=1) < limit * largest).all()


def shapes(graph_def: Any, *operations: str) -> list[list[int | None]]:
    """Return the shapes of what the operations give."""
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph_def, name="")
    return [imported.get_tensor_by_name(f"{name}:0").shape.as_list() for name in operations]


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_tflite_gives_tensorflows_bottlenecks(family: Family) -> None:
    expected = tf_graph.session(tf_graph.read(family.graph_path), tf_graph.BOTTLENECK)(
        family.tensors
    )
    model = Model(family.graph_path.with_name("model.tflite").read_bytes())
    assert len(expected) == 16
    require_close(np.stack([model(each[np.newaxis]) for each in family.tensors]), expected, 1e-3)


@pytest.mark.parametrize("family", KERAS, indirect=True)
def test_folding_keeps_what_keras_computes(family: Family, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["family"]
    network, some = KERAS[name], family.tensors[::8]
    pixels = some
    if network.preprocess:
        module = getattr(tf_graph.tensorflow().keras.applications, network.preprocess)
        pixels = module.preprocess_input(some * network.spec.std + network.spec.mean)
    expected = np.asarray(family.keras(pixels, training=False))
    assert expected.shape == (2, network.width)
    require_close(tf_graph.session(family.folded, tf_graph.BOTTLENECK)(some), expected, 1e-4)
    if name in PUBLISHED:
        counted = cost.count(family.folded).multiply_adds + 1000 * network.width
        assert counted == pytest.approx(PUBLISHED[name] * 1e6, rel=0.03)
    operations = {node.name: node.op for node in family.folded.node}
    assert not [
        node.name
        for node in family.folded.node
        if node.op == "Mul"
        and operations[node.input[0]] in ("Conv2D", "DepthwiseConv2dNative", "BiasAdd")
        and operations[node.input[1]] == "Const"
    ]


def require_the_rest_of_the_road(run: Path, spec: InputSpec, photo: Path, invoke: Invoke) -> None:
    """Assert that what was trained into `run` becomes int8, is timed, and labels `photo`."""
    for command in (
        ("convert", "--calibration-images", 6, *ANY),
        ("bench", "--rounds", 2, "--runs", 3, "--threads", 1),
    ):
        result = invoke(*command, "--output-dir", run)
        assert result.exit_code == 0, result.output
    result = invoke("label", photo, "--model", run / "model.tflite", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert {*shown["labels"]} == {*LABELS}
    assert sum(shown["scores"]) == pytest.approx(1, abs=0.02)

    contract = Contract.from_json((run / "contract.json").read_bytes())
    assert (contract.input, contract.labels) == (spec, LABELS)
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
    timed = json.loads((run / "bench.json").read_text())["runners"]
    assert all(each["ms"]["p50"] > 0 for each in timed)


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_the_whole_road(family: Family, few_photos: Path, tmp_path: Path, invoke: Invoke) -> None:
    where = ("--output-dir", tmp_path, "--how-many-training-steps", 40)
    result = invoke("train", few_photos, *family.options, *where)
    assert result.exit_code == 0, result.output
    photo = next((few_photos / LABELS[0]).iterdir())
    require_the_rest_of_the_road(tmp_path, family.spec, photo, invoke)


def test_inception_of_2015_is_the_network_that_was_given_and_goes_the_whole_road(
    photos: Path, tmp_path: Path, invoke: Invoke
) -> None:
    network = inception_of_2015()
    path = save(network, tmp_path / "classify_image_graph_def.pb")
    where = ("--output-dir", tmp_path)
    options = ("--graph", path, "--cache-dir", tmp_path / "cache")
    for command in (
        ("train", photos, *options, "--how-many-training-steps", 200),
        ("convert", "--quantize", "float32", "--goldens", 0),
    ):
        result = invoke(*command, *where)
        assert result.exit_code == 0, result.output
    file = model_file.read(tmp_path / "model.tflite")
    assert (file.contract.input.height, file.contract.recipe) == (299, "float32")
    run, model = tf_graph.read(tmp_path / "output_graph.pb"), Model(file.flatbuffer)
    assert not {"Mul", "BatchNormWithGlobalNormalization"} & {node.op for node in run.node}
    assert "BatchNormWithGlobalNormalization" in {node.op for node in network.node}
    layer = {
        node.name: tf_graph.tensorflow().make_ndarray(node.attr["value"].tensor)
        for node in run.node
        if node.name in ("final_weights", "final_biases")
    }
    manifest = read_manifest(tmp_path / "manifest.csv")
    testing = [photo for photo, part in manifest if part == split.TESTING]
    assert len(testing) >= 3
    tensors = np.concatenate(
        [to_tensor(open_image(photo.read()), file.contract.input) for photo in testing]
    )
    bottlenecks = original(network, "Mul:0", "pool_3/_reshape:0", tensors)
    logits = bottlenecks @ layer["final_weights"] + layer["final_biases"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    found = np.stack([model(each[np.newaxis]) for each in tensors])
    assert np.abs(found - expected).max() < 1e-3
    assert (expected.max(axis=1) > 0.5).any()
    require_the_rest_of_the_road(tmp_path, file.contract.input, testing[0].path, invoke)
