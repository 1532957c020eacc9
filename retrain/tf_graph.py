"""Read frozen graphs, and trace and run them with TensorFlow.

A GraphDef is TensorBoard's protobuf message here, the same as TensorFlow's: to read, change and
write a graph takes no TensorFlow, whose loading takes seconds.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.graph_pb2 import GraphDef

from deploy.errors import BadData
from deploy.runtime import silent_stderr
from deploy.system.cores import cores
from deploy.untrusted_files import damaged, naming
from retrain.frozen_graph import BOTTLENECK as BOTTLENECK
from retrain.frozen_graph import INPUT as INPUT
from retrain.frozen_graph import LOGITS as LOGITS
from retrain.frozen_graph import FrozenGraph


@cache
def tensorflow() -> Any:
    """Return the tensorflow module, without the lines that it prints at start; errors show."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with silent_stderr():  # absl's C++ logger prints its first lines whatever its level
        import tensorflow as tf
    # TensorFlow counts the CPUs of its affinity and ignores a quota.
    with suppress(RuntimeError):  # the caller has computed with it before
        tf.config.threading.set_intra_op_parallelism_threads(cores())
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tf


def use_onednn() -> None:
    """Let TensorFlow compute with oneDNN, where it would not by itself; call it before loading.

    Training above a cut takes 0.7 to 0.8 of the time on a processor without AVX-512.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Let each error name the file `path`; errors of Python and TensorFlow become BadData."""
    with naming(path), damaged("the graph is damaged"):
        yield


def read(path: Path) -> Any:
    """Return the GraphDef in the file at `path`; raise BadData if it holds none."""
    try:
        with naming(path):
            return parse(path.read_bytes())
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error


def parse(serialized: bytes) -> Any:
    """Return the GraphDef of its bytes; raise BadData if they are none."""
    graph = GraphDef()
    with damaged("not a frozen graph, or damaged"):
        graph.ParseFromString(serialized)
    if not graph.node:
        raise BadData("not a frozen graph, or damaged")
    return graph


def subgraph(graph: Any, output: str) -> Any:
    """Return the GraphDef of the operations that `output` is computed from, in their order.

    Raises BadData where the graph lacks one of them.
    """
    inputs = {
        node.name: [name.removeprefix("^").partition(":")[0] for name in node.input]
        for node in graph.node
    }
    needed: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in inputs:
            raise BadData(f"the graph has no operation named {name}")
        if name not in needed:
            needed.add(name)
            waiting += inputs[name]
    nodes = [node for node in graph.node if node.name in needed]
    return GraphDef(node=nodes, library=graph.library, versions=graph.versions)


def import_graph(
    graph: Any, inputs: Any = None, outputs: Sequence[str] | None = None, name: str = ""
) -> Any:
    """Add the GraphDef `graph` to TensorFlow's current graph; return the tensors `outputs`.

    `inputs` maps the names of tensors to those that replace them; `name` is a prefix. Raises
    ValueError for what TensorFlow does not take.
    """
    tf = tensorflow()
    message = tf.compat.v1.GraphDef.FromString(graph.SerializeToString())
    return tf.graph_util.import_graph_def(message, inputs, outputs, name)


def definition(graph: Any) -> Any:
    """Return the GraphDef of TensorFlow's tf.Graph `graph`."""
    return GraphDef.FromString(graph.as_graph_def().SerializeToString())


def function(graph: Any, output: str) -> Any:
    """Return the GraphDef `graph` as a concrete function from INPUT to the operation `output`.

    Raises BadData where the graph has no such operation.
    """
    tf = tensorflow()
    require_ends(graph, INPUT, output)
    with damaged("the graph is damaged"):
        wrapped = tf.compat.v1.wrap_function(lambda: import_graph(graph), [])
    ends = (wrapped.graph.get_tensor_by_name(f"{name}:0") for name in (INPUT, output))
    return wrapped.prune(*ends)


def require_ends(graph: Any, *names: str) -> None:
    """Raise BadData unless the GraphDef `graph` has operations of these names."""
    missing = {*names} - {node.name for node in graph.node}
    if missing:
        raise BadData(f"the graph has no operation named {', '.join(sorted(missing))}")


def trace(body: Callable[[Any], Any], shape: tuple[int, int, int], output: str) -> Any:
    """Return the GraphDef of `body`, from INPUT, float32 (N, *shape), to the operation `output`.

    `body` may hold constants only: nothing is left to freeze.
    """
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, *shape], name=INPUT)
        tf.identity(body(images), name=output)
    return definition(graph)


def lite_converter(path: Path, height: int, width: int, output: str) -> Any:
    """Return the TFLiteConverter of the frozen graph at `path`, from INPUT to `output`.

    Its model takes one photo, (1, height, width, 3). A converter from a file takes less memory than
    one from a function: 1.6 GB for Inception v3 instead of 2.7.
    """
    return tensorflow().compat.v1.lite.TFLiteConverter.from_frozen_graph(
        os.fsencode(path), [INPUT], [output], {INPUT: [1, height, width, 3]}
    )


def failure_reason(error: Exception) -> str:
    """Return the reason of TensorFlow's `error` in a line: operations that TFLite lacks."""
    message = str(error).strip() or type(error).__name__
    lacking = re.findall(r"^(?:TF Select|Custom) ops: (.+)$", message, re.MULTILINE)
    if lacking:
        return f"TFLite has no operation for {', '.join(lacking)}"
    return message.splitlines()[0]


def session_settings() -> Any:
    """Return the ConfigProto of a session that computes on as many threads as there are cores."""
    return tensorflow().compat.v1.ConfigProto(
        intra_op_parallelism_threads=cores(), inter_op_parallelism_threads=cores()
    )


def session(graph: Any, output: str) -> Callable[..., npt.NDArray[np.float32]]:
    """Return the GraphDef `graph` as a function of the array for INPUT, which threads may share.

    It computes on all cores. Raises BadData where the graph lacks an end, or cannot be loaded.

    Only kernels are fused: TensorFlow's other rewrites hold copies of the weights. Inception v3
    takes 1.6 GB here, 2.4 GB with `function`.
    """
    tf = tensorflow()
    require_ends(graph, INPUT, output)
    with damaged("the graph is damaged"), tf.Graph().as_default() as loaded:
        import_graph(graph)
    settings = session_settings()
    rewrites = settings.graph_options.rewrite_options
    rewrites.optimizers.append("remap")
    rewrites.meta_optimizer_iterations = rewrites.ONE
    running = tf.compat.v1.Session(graph=loaded, config=settings)
    run: Callable[..., npt.NDArray[np.float32]]
    run = running.make_callable(f"{output}:0", [f"{INPUT}:0"])
    return run


def open_session(frozen: FrozenGraph) -> Callable[..., npt.NDArray[np.float32]]:
    """Return a frozen graph as a function of float32 (N, height, width, 3), as `session` does."""
    return session(parse(frozen.graph_def), frozen.output)
