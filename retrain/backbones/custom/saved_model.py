"""Read a SavedModel as a frozen network; refuse one that could do more than compute unloaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.errors import BadData
from deploy.untrusted_files import naming
from retrain import tf_graph
from retrain.backbones.custom.custom_network import CustomNetwork
from retrain.backbones.custom.freeze_function import freeze

_NAMES = """
    Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Case DestroyResourceOp
    DisableCopyOnRead If Multinomial ParameterizedTruncatedNormal PartitionedCall RandomGamma
    RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
    ReadVariableOp RngReadAndSkip StatefulPartitionedCall StatefulRandomBinomial
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
    StatefulUniformInt TruncatedNormal VarHandleOp VarIsInitializedOp While
"""
_STATEFUL_WITHOUT_EFFECT = frozenset(_NAMES.split())
"""Operations that TensorFlow calls stateful, and that change only the model's own variables."""
_READS_FILES = frozenset(("MatchingFiles", "ReadFile"))
"""Operations that TensorFlow does not call stateful."""


def read(path: Path) -> CustomNetwork:
    """Return the network that serves in the SavedModel folder `path`; raise BadData."""
    with naming(path):
        graphs = _read_graphs(path / "saved_model.pb")
        try:
            for graph in graphs:
                _require_only_computes(graph)
            loaded = tf_graph.tensorflow().saved_model.load(str(path))
            if "serving_default" in loaded.signatures:
                return freeze(loaded.signatures["serving_default"])
        except BadData:
            raise
        except Exception as error:  # TensorFlow's own, undocumented kinds
            reason = tf_graph.failure_reason(error)
            raise BadData(f"damaged, or not a network ({reason})") from error
        names = ", ".join(loaded.signatures) or "none"
        raise BadData(
            f"it has no signature serving_default (it has: {names}). Remedy: save it with "
            "model.export(folder), or tf.saved_model.save(model, folder, signatures=function)"
        )


def _read_graphs(file: Path) -> list[Any]:
    """Return the MetaGraphDefs in `file`; raise BadData if it is missing or damaged."""
    from tensorflow.core.protobuf import saved_model_pb2

    if not file.exists():
        raise BadData(
            "no SavedModel: the folder holds no saved_model.pb. Remedy: name the folder that "
            "holds it, or the .pb, .keras or .tflite file itself"
        )
    try:
        return list(saved_model_pb2.SavedModel.FromString(file.read_bytes()).meta_graphs)
    except Exception as error:  # OSError, or protobuf's DecodeError of whichever implementation
        raise BadData(f"not a SavedModel, or damaged ({error})") from error


def _require_only_computes(meta: Any) -> None:
    """Raise BadData for a SavedModel that could do more than restore its weights and compute."""
    if not meta.object_graph_def.nodes:
        raise BadData("saved by TensorFlow 1: pass its frozen graph (.pb) instead")
    functions = {item.signature.name: item.node_def for item in meta.graph_def.library.function}
    main = {node.name: node for node in meta.graph_def.node}
    saver = _saver_nodes(main, meta.saver_def)
    served = [node for name, node in main.items() if name not in saver]
    loaded = {*meta.object_graph_def.concrete_functions}
    loaded |= _called(served, functions)
    loaded |= {inner for name in loaded for inner in _called(functions.get(name, ()), functions)}
    only_saves = _called([main[name] for name in saver], functions) - loaded
    _require_no_effect("", served, functions)
    for name, nodes in functions.items():
        if name not in only_saves:
            _require_no_effect(f"{name}/", nodes, functions)
    for item in meta.object_graph_def.nodes:
        if item.WhichOneof("kind") in ("resource", "asset") or item.saveable_objects:
            raise BadData("it holds tables or files besides its weights")
    for collection in meta.collection_def.values():
        for name in collection.node_list.value:
            if name not in main or main[name].op != "NoOp" or main[name].input:
                raise BadData(f"node {name} would run when it is loaded")


def _saver_nodes(nodes: dict[str, Any], saver: Any) -> set[str]:
    """Return the names of the nodes that save and restore the weights, which are not run here."""
    ends = (saver.save_tensor_name, saver.restore_op_name)
    names: set[str] = set()
    waiting = [end.partition(":")[0] for end in ends]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in names:
            names.add(name)
            waiting += [data.removeprefix("^").partition(":")[0] for data in nodes[name].input]
    return names


def _called(nodes: Iterable[Any], functions: dict[str, Any]) -> set[str]:
    """Return the names of the functions that `nodes` call, and those that these call."""
    called: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        attrs = node.attr.values()
        names = [function.name for attr in attrs for function in (attr.func, *attr.list.func)]
        for name in (node.op, *names):
            if name in functions and name not in called:
                called.add(name)
                waiting += functions[name]
    return called


def _require_no_effect(where: str, nodes: Iterable[Any], functions: dict[str, Any]) -> None:
    """Raise BadData for an operation that reads or writes files, prints, or runs foreign code."""
    from tensorflow.python.framework import op_def_registry

    for node in nodes:
        definition = op_def_registry.get(node.op)
        if definition is None and node.op not in functions:
            raise BadData(
                f"node {where}{node.name} is an operation that TensorFlow does not have: {node.op}"
            )
        stateful = definition is not None and definition.is_stateful
        if node.op in _READS_FILES or (stateful and node.op not in _STATEFUL_WITHOUT_EFFECT):
            raise BadData(
                f"node {where}{node.name} is an operation that is not loaded: {node.op}, which may "
                "do more than compute. Remedy: save the network without it, or freeze it (.pb)"
            )
