"""Export the retrained network as one frozen graph, and as a SavedModel."""

import shutil
from collections.abc import Set
from itertools import chain, count
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.types_pb2 import DT_FLOAT

from deploy.errors import BadData, WrongUse
from deploy.system.temporary_files import scratch
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.frozen_graph import BOTTLENECK, LOGITS, FrozenGraph
from retrain.tensor_proto import to_proto
from retrain.training.trained_network import TrainedNetwork

_WEIGHTS, _PRODUCT, _BIASES = "final_weights", "MatMul", "final_biases"
"""Names of the final layer's operations below LOGITS."""


def export_graph(backbone: Backbone, network: TrainedNetwork, output: str) -> FrozenGraph:
    """Return the network as one graph, whose operation `output` gives probabilities.

    The operations BOTTLENECK and LOGITS can be read too. Its bytes are those that TensorFlow would
    write, which is not loaded. Raises WrongUse as `require_free_name` does, and BadData if the
    backbone's graph is damaged.
    """
    graph_def = tf_graph.read(backbone.graph_path)
    require_free_name(graph_def, output)
    tf_graph.require_ends(graph_def, BOTTLENECK)
    if not graph_def.library.function:
        graph_def.ClearField("library")
    constants, head = network.constants, network.head
    for node in graph_def.node:
        if node.name in constants:
            node.attr["value"].tensor.CopyFrom(to_proto(constants[node.name]))
    weights = _add(graph_def, _WEIGHTS, "Const")
    weights.attr["value"].tensor.CopyFrom(to_proto(head.weights))
    product = _add(graph_def, _PRODUCT, "MatMul", BOTTLENECK, weights.name)
    for attribute in ("transpose_a", "transpose_b", "grad_a", "grad_b"):
        product.attr[attribute].b = False
    bias = _add(graph_def, _BIASES, "Const")
    bias.attr["value"].tensor.CopyFrom(to_proto(head.bias))
    logits = _add(graph_def, LOGITS, "BiasAdd", product.name, bias.name)
    logits.attr["data_format"].s = b"NHWC"
    _add(graph_def, output, "Softmax", logits.name)
    # Deterministic: else protobuf shuffles attributes, and the same weights give other bytes.
    content: bytes = graph_def.SerializeToString(deterministic=True)
    return FrozenGraph(content, backbone.spec, output)


def require_free_name(graph_def: Any, output: str) -> None:
    """Raise WrongUse if the graph, or the final layer that it gets, has an operation `output`.

    TensorFlow takes names that differ by the case of letters alone for the same.
    """
    names = {node.name.lower() for node in graph_def.node}
    for name in (_WEIGHTS, _PRODUCT, _BIASES, LOGITS):
        names.add(_free_name(names, name).lower())
    if output.lower() in names:
        raise WrongUse(
            f"`final_tensor_name` {output}: the network has an operation of that name: name another"
        )


def _add(graph_def: Any, name: str, op: str, *inputs: str) -> Any:
    """Add a float32 operation, and return its node.

    It is called `name`, with a number if the graph has that name, in whatever case, as TensorFlow
    does.
    """
    free = _free_name({node.name.lower() for node in graph_def.node}, name)
    node = graph_def.node.add(name=free, op=op, input=inputs)
    node.attr["dtype" if op == "Const" else "T"].type = DT_FLOAT
    return node


def _free_name(names: Set[str], name: str) -> str:
    """Return `name`, with a number if it is one of `names`, which are in lower case."""
    numbered = (f"{name}_{number}" for number in count(1))
    return next(text for text in chain([name], numbered) if text.lower() not in names)


def require_empty(folder: Path) -> None:
    """Raise WrongUse if `folder` cannot become a SavedModel: it must be empty or not exist."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        raise WrongUse(
            f"`saved_model_dir` {folder}: TensorFlow writes to paths in UTF-8 only: name another"
        ) from error
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise WrongUse(f"`saved_model_dir` {folder}: it is not empty: remove it or name another")


def write_saved_model(graph: FrozenGraph, folder: Path) -> None:
    """Write the graph as a SavedModel, whole or not at all.

    Its signature `serving_default` maps `image`, float32 (N, height, width, 3) normalised as
    `graph.spec` says, to `prediction`, float32 (N, classes). Raises WrongUse as `require_empty`
    does, and BadData if the folder cannot be written.
    """
    tf = tf_graph.tensorflow()
    require_empty(folder)
    run = tf_graph.function(tf_graph.parse(graph.graph_def), graph.output)
    module = tf.Module()
    shape = run.inputs[0].shape

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])  # type: ignore[untyped-decorator]
    def predict(image: object) -> dict[str, object]:
        return {"prediction": run(image)}

    module.predict = predict
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(folder.parent) as temporary:
        unfinished = temporary / "saved"
        try:
            tf.saved_model.save(module, str(unfinished), signatures=predict)
        except tf.errors.OpError as error:  # TensorFlow's own errors, also for a full disk
            reason = error.message.rpartition("; ")[2]
            raise BadData(f"cannot write {folder}: {reason}: name another place") from error
        if folder.exists():
            folder.rmdir()
        shutil.move(unfinished, folder)
