"""A user's own network, read from its file as a frozen graph; nothing foreign in it is run."""

import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from deploy.errors import BadData, WrongUse
from retrain import graph
from retrain.backbones import lite_graph
from retrain.backbones.cut import before_dense
from retrain.backbones.inference_part import ALLOWED

MAX_BYTES = 2 << 30
"""The most that is read; a GraphDef cannot be larger either."""
_NAMES = """
    AssignVariableOp DisableCopyOnRead Identity MergeV2Checkpoints NoOp PartitionedCall Placeholder
    ReadVariableOp RestoreV2 SaveV2 Select ShardedFilename StatefulPartitionedCall
    StaticRegexFullMatch StringJoin VarHandleOp VarIsInitializedOp
"""
_KEEPS_WEIGHTS = frozenset(_NAMES.split())
"""What a SavedModel holds besides its network, to save and restore its weights."""

_DENSE = frozenset(("MatMul", "Conv2D"))
_SCORES = """
    Add AddV2 BiasAdd Identity LogSoftmax Reshape Sigmoid Softmax Squeeze
"""
_AFTER_DENSE = frozenset(_SCORES.split())


class OwnNetwork(NamedTuple):
    """A frozen GraphDef, and what its file tells of it: ends, side in pixels, mean and std."""

    graph_def: Any
    input_tensor: str | None = None
    bottleneck_tensor: str | None = None
    size: int | None = None
    mean: float | None = None
    std: float | None = None


def read(path: Path, bottleneck: str | None = None, size: int | None = None) -> OwnNetwork:
    """Return the network at `path`: a .pb, a .tgz with one in it, a SavedModel, .keras or .tflite.

    A .tflite file is read as far as the tensor `bottleneck`, for photos of `size` pixels. Raises
    BadData for a file that is damaged, too large, or that could run code.
    """
    files_of(path)
    if path.is_dir():
        return _read_saved_model(path)
    if path.suffix == ".keras":
        return _read_keras(path)
    if path.suffix in (".tgz", ".gz"):
        return OwnNetwork(_read_archive(path))
    if path.suffix == ".pb":
        return OwnNetwork(graph.read(path))
    if path.suffix == ".tflite":
        return OwnNetwork(*lite_graph.read(path, bottleneck, size))
    raise WrongUse(f"{path}: --graph takes a .pb, a .tgz with one, .keras, .tflite or SavedModel")


def files_of(path: Path) -> list[Path]:
    """Return the file at `path`, or those in the folder; raise BadData if it is more than 2 GiB."""
    try:
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        total = sum(each.stat().st_size for each in found)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    if total > MAX_BYTES:
        raise BadData(f"{path}: {total} bytes; at most {MAX_BYTES} are read")
    return found


def _read_archive(path: Path) -> Any:
    try:
        with tarfile.open(path) as archive:
            graphs = []
            for each in archive:
                if each.offset_data + each.size > MAX_BYTES:
                    raise BadData(f"{path}: more than {MAX_BYTES} bytes in it")
                if each.isreg() and each.name.endswith(".pb"):
                    graphs.append(each)
            if len(graphs) != 1:
                raise BadData(f"{path}: {len(graphs)} .pb files in it instead of one")
            stream = archive.extractfile(graphs[0])
            return graph.parse(stream.read() if stream else b"")
    except BadData as error:
        raise error if str(path) in str(error) else BadData(f"{path}: {error}") from error
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise BadData(f"{path}: not an archive, or damaged ({error})") from error


def _read_keras(path: Path) -> OwnNetwork:
    tf = graph.tensorflow()
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > MAX_BYTES:
                raise BadData(f"{path}: more than {MAX_BYTES} bytes in it")
        model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
        run = tf.function(lambda images: model(images, training=False))
        return _frozen(run.get_concrete_function(tf.TensorSpec(model.input_shape, tf.float32)))
    except BadData:
        raise
    except Exception as error:  # Keras raises any kind
        raise BadData(f"{path}: not a network of one input without code ({error})") from error


def _read_saved_model(path: Path) -> OwnNetwork:
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # OSError, or protobuf's DecodeError of whichever implementation
        raise BadData(f"{path}: not a SavedModel, or damaged ({error})") from error
    for meta in model.meta_graphs:
        _check_saved(path, meta)
    try:
        loaded = graph.tensorflow().saved_model.load(str(path))
        return _frozen(loaded.signatures["serving_default"])
    except Exception as error:  # TensorFlow's own, undocumented kinds
        raise BadData(f"{path}: no serving_default of one input, or damaged ({error})") from error


def _check_saved(path: Path, meta: Any) -> None:
    """Raise BadData for a SavedModel that could do more than restore its weights when loaded."""
    if not meta.object_graph_def.nodes:
        raise BadData(f"{path}: saved by TensorFlow 1: pass its frozen graph (.pb) instead")
    nodes = {each.name: each for each in meta.graph_def.node}
    for function in meta.graph_def.library.function:
        nodes |= {f"{function.signature.name}/{each.name}": each for each in function.node_def}
    for name, node in nodes.items():
        if node.op not in ALLOWED | _KEEPS_WEIGHTS:
            raise BadData(f"{path}: node {name} is an operation that is not loaded: {node.op}")
    for each in meta.object_graph_def.nodes:
        if each.WhichOneof("kind") in ("resource", "asset") or each.saveable_objects:
            raise BadData(f"{path}: it holds tables or files besides its weights")
    for collection in meta.collection_def.values():
        for name in collection.node_list.value:
            if name not in nodes or nodes[name].op != "NoOp" or nodes[name].input:
                raise BadData(f"{path}: node {name} would run when it is loaded")


def _frozen(run: Any) -> OwnNetwork:
    """Return the concrete function `run`, to where it is cut if it has one output."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(run)
    (images,), (output, *others) = frozen.inputs, frozen.outputs
    side = images.shape[1] if images.shape.rank == 4 else None
    bottleneck = None if others else _before_dense(frozen.graph, images, output)
    return OwnNetwork(frozen.graph.as_graph_def(), images.name, bottleneck, side)


def _before_dense(whole: Any, images: Any, output: Any) -> str:
    """Return the name of what feeds the last dense layer if only scores come after it."""
    moving = {images.name}
    for operation in whole.get_operations():
        if any(each.name in moving for each in operation.inputs):
            moving.update(each.name for each in operation.outputs)

    def only_input(end: str, kinds: frozenset[str]) -> Any:
        """Return what `end` is made of, if by an operation of these kinds and constants."""
        operation = whole.get_tensor_by_name(end).op
        hanging = [each for each in operation.inputs if each.name in moving]
        # A new shape may be computed from the old one's.
        data = hanging[:1] if operation.type == "Reshape" else hanging
        return data[0] if operation.type in kinds and len(data) == 1 else None

    def dense(end: str) -> str | None:
        fed = only_input(end, _DENSE)
        if fed is None:
            return None
        operation = whole.get_tensor_by_name(end).op
        if operation.type == "Conv2D":
            kernel = operation.inputs[1].shape[:2].as_list()
            places = (each.shape[1:3].as_list() for each in (fed, *operation.outputs))
            if any(each != [1, 1] for each in (kernel, *places)):
                return None
        return str(fed.name)

    def scores(end: str) -> str | None:
        fed = only_input(end, _AFTER_DENSE)
        return None if fed is None else str(fed.name)

    return before_dense(str(output.name), dense, scores)
