"""Load a .keras file or a SavedModel, cut before its last layer; refuse code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.errors import BadData
from tests.helpers.own_networks import SIDE, keras_model, load, operations, require_same, tf


@pytest.mark.parametrize("kind", ["keras", "export", "saved_model"])
def test_keras_files_and_saved_models_are_cut_before_the_last_layer(
    kind: str, tmp_path: Path
) -> None:
    model = keras_model()
    path = tmp_path / f"mine.{kind}"
    if kind == "keras":
        model.save(path)
    elif kind == "export":
        model.export(path, verbose=False)
    else:
        tf.saved_model.save(model, path)
    tensor = np.random.default_rng(1).uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)
    backbone = load(path, tmp_path, size=None)
    expected = tf.keras.Model(model.inputs, model.layers[-2].output).predict(tensor, verbose=0)
    require_same(backbone, expected, tensor)
    assert backbone.spec.height == SIDE
    assert "Mul" not in operations(backbone)


def test_a_keras_file_with_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.keras"
    keras_model(tf.keras.layers.Lambda(lambda x: x * 2)).save(path)
    with pytest.raises(BadData, match="Lambda"):
        load(path, tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadData, match="zip"):
        load(path, tmp_path)


def saved(tmp_path: Path, member: Callable[[Any], None]) -> Path:
    """Return a SavedModel whose module `member` adds to."""
    module = tf.Module()
    module.call = tf.function(
        lambda x: tf.reduce_mean(x, [1, 2]), [tf.TensorSpec([None, SIDE, SIDE, 3])]
    )
    member(module)
    tf.saved_model.save(module, tmp_path / "saved", module.call)
    return tmp_path / "saved"


def add_table(module: Any) -> None:
    keys = tf.constant(["a"]), tf.constant([1])
    module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(*keys), 0)


def add_asset(module: Any) -> None:
    module.asset = tf.saved_model.Asset(__file__)


def add_writer(module: Any) -> None:
    module.write = tf.function(lambda: tf.group(tf.io.write_file("written", "x")) and None, [])


@pytest.mark.parametrize(
    ("member", "words"),
    [(add_table, "Table"), (add_asset, "files"), (add_writer, "WriteFile")],
)
def test_a_saved_model_that_does_more_than_compute_is_refused(
    member: Callable[[Any], None], words: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, member)
    with pytest.raises(BadData, match=words):
        load(path, tmp_path)


def test_a_saved_model_that_runs_something_when_loaded_is_refused(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    path = saved(tmp_path, lambda _: None)
    assert load(path, tmp_path).width == 3
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    starts = model.meta_graphs[0].collection_def["saved_model_main_op"].node_list.value
    starts[:] = ["StatefulPartitionedCall"]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(BadData, match="would run"):
        load(path, tmp_path)
    del starts[:]
    nodes = model.meta_graphs[0].object_graph_def.nodes
    nodes[0].saveable_objects["restored"].restore_function = 1
    file.write_bytes(model.SerializeToString())
    with pytest.raises(BadData, match="besides its weights"):
        load(path, tmp_path)
    del nodes[:]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(BadData, match="TensorFlow 1"):
        load(path, tmp_path)
    file.write_bytes(b"not a model")
    with pytest.raises(BadData, match="damaged"):
        load(path, tmp_path)


@pytest.mark.parametrize(
    "effect",
    [
        lambda x: tf.raw_ops.SaveV2(
            prefix="written", tensor_names=["a"], shape_and_slices=[""], tensors=[x]
        ),
        lambda _: tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=["a"], destination_prefix="written"
        ),
        lambda _: tf.io.write_file("written", "a"),
        lambda _: tf.io.read_file("written"),
        lambda _: tf.print("written"),
        lambda _: tf.numpy_function(lambda: 1, [], tf.int64),
    ],
)
def test_a_serving_function_with_a_side_effect_is_refused(
    effect: Callable[[Any], Any], tmp_path: Path
) -> None:
    module = tf.Module()

    def serve(x: Any) -> Any:
        effect(x)
        return tf.reduce_mean(x, [1, 2])

    module.call = tf.function(serve, [tf.TensorSpec([None, SIDE, SIDE, 3])])
    tf.saved_model.save(module, tmp_path / "saved", module.call)
    words = "SaveV2|MergeV2Checkpoints|WriteFile|ReadFile|PrintV2|PyFunc"
    with pytest.raises(BadData, match=rf"is an operation that is not loaded: ({words}).*Remedy"):
        load(tmp_path / "saved", tmp_path)


def test_two_inputs_are_named(tmp_path: Path) -> None:
    module = tf.Module()
    photos = tf.TensorSpec([None, SIDE, SIDE, 3])
    module.call = tf.function(lambda x, y: tf.reduce_mean(x + y, [1, 2]), [photos, photos])
    tf.saved_model.save(module, tmp_path / "saved", module.call)
    with pytest.raises(BadData, match=r"2 inputs \(x:0 .*, y:0 .*\) instead of one"):
        load(tmp_path / "saved", tmp_path)
