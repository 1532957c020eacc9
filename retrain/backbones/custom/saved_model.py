"""A SavedModel as a frozen network; what could do more than compute is refused before it loads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.custom.freeze_function import OwnNetwork, freeze

_NAMES = """
    Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Case DestroyResourceOp
    DisableCopyOnRead If Multinomial ParameterizedTruncatedNormal PartitionedCall RandomGamma
    RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
    ReadVariableOp RngReadAndSkip StatefulPartitionedCall StatefulRandomBinomial
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
    StatefulUniformInt TruncatedNormal VarHandleOp VarIsInitializedOp While
"""
_STATEFUL_WITHOUT_EFFECT = frozenset(_NAMES.split())
"""What TensorFlow calls stateful, and what changes nothing but the model's own variables."""
_READS_FILES = frozenset(("MatchingFiles", "ReadFile"))
"""What TensorFlow does not call stateful."""


def read(path: Path) -> OwnNetwork:
    """Return the network that serves in the SavedModel folder `path`; raise BadData."""
    from tensorflow.core.protobuf import saved_model_pb2

    if not (path / "saved_model.pb").exists():
        raise BadData(
            f"{path}: no SavedModel: the folder holds no saved_model.pb. Remedy: name the folder "
            "that holds it, or the .pb, .keras or .tflite file itself"
        )
    try:
        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # OSError, or protobuf's DecodeError of whichever implementation
        raise BadData(f"{path}: not a SavedModel, or damaged ({error})") from error
    try:
        for meta in model.meta_graphs:
            _check(meta)
        loaded = tf_graph.tensorflow().saved_model.load(str(path))
        if "serving_default" not in loaded.signatures:
            names = ", ".join(loaded.signatures) or "none"
            raise BadData(
                f"it has no signature serving_default (it has: {names}). Remedy: save it with "
                "model.export(folder), or tf.saved_model.save(model, folder, signatures=function)"
            )
        return freeze(loaded.signatures["serving_default"])
    except BadData as error:
        raise BadData(f"{path}: {error}") from error
    except Exception as error:  # TensorFlow's own, undocumented kinds
        raise BadData(f"{path}: damaged, or not a network ({tf_graph.refusal(error)})") from error


def _check(meta: Any) -> None:
    """Raise BadData for a SavedModel that could do more than restore its weights and compute."""
    if not meta.object_graph_def.nodes:
        raise BadData("saved by TensorFlow 1: pass its frozen graph (.pb) instead")
    functions = {each.signature.name: each.node_def for each in meta.graph_def.library.function}
    main = {node.name: node for node in meta.graph_def.node}
    saver = _leading_to(main, meta.saver_def)
    served = [node for name, node in main.items() if name not in saver]
    loaded = {*meta.object_graph_def.concrete_functions}
    loaded |= _called(served, functions)
    loaded |= {inner for name in loaded for inner in _called(functions.get(name, ()), functions)}
    only_saves = _called([main[name] for name in saver], functions) - loaded
    _require_no_effect("", served, functions)
    for name, nodes in functions.items():
        if name not in only_saves:
            _require_no_effect(f"{name}/", nodes, functions)
    for each in meta.object_graph_def.nodes:
        if each.WhichOneof("kind") in ("resource", "asset") or each.saveable_objects:
            raise BadData("it holds tables or files besides its weights")
    for collection in meta.collection_def.values():
        for name in collection.node_list.value:
            if name not in main or main[name].op != "NoOp" or main[name].input:
                raise BadData(f"node {name} would run when it is loaded")


def _leading_to(nodes: dict[str, Any], saver: Any) -> set[str]:
    """Return the names of the nodes that save and restore the weights, which are not run here."""
    ends = (saver.save_tensor_name, saver.restore_op_name)
    leading: set[str] = set()
    todo = [end.partition(":")[0] for end in ends]
    while todo:
        name = todo.pop()
        if name in nodes and name not in leading:
            leading.add(name)
            todo += [each.removeprefix("^").partition(":")[0] for each in nodes[name].input]
    return leading


def _called(nodes: Iterable[Any], functions: dict[str, Any]) -> set[str]:
    """Return the names of the functions that `nodes` call, and those that these call."""
    called: set[str] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        attrs = node.attr.values()
        names = [function.name for attr in attrs for function in (attr.func, *attr.list.func)]
        for name in (node.op, *names):
            if name in functions and name not in called:
                called.add(name)
                todo += functions[name]
    return called


def _require_no_effect(where: str, nodes: Iterable[Any], functions: dict[str, Any]) -> None:
    """Raise BadData for an operation that reads or writes files, prints, or runs foreign code."""
    from tensorflow.python.framework import op_def_registry

    for node in nodes:
        known = op_def_registry.get(node.op)
        if known is None and node.op not in functions:
            raise BadData(
                f"node {where}{node.name} is an operation that TensorFlow does not have: {node.op}"
            )
        stateful = known is not None and known.is_stateful
        if node.op in _READS_FILES or (stateful and node.op not in _STATEFUL_WITHOUT_EFFECT):
            raise BadData(
                f"node {where}{node.name} is an operation that is not loaded: {node.op}, which may "
                "do more than compute. Remedy: save the network without it, or freeze it (.pb)"
            )
