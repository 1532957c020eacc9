"""Load what TensorFlow can time: a frozen graph, a SavedModel."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.load_tflite import (
    About,
    Array,
    Loaded,
    draw_pixels,
    multiply_adds,
    photo_steps,
    random_tensor,
)
from deploy.contract import Contract
from deploy.errors import BadData
from deploy.image import normalise

Ends = Sequence[str | None]
"""The names of the nodes to feed and to fetch; None for one that the graph shows itself."""
NO_ENDS: Ends = (None, None)


class Graph(NamedTuple):
    """A graph in a session; `infer` takes the array for `source` and returns that of `sink`."""

    session: Any
    source: Any
    sink: Any
    infer: Callable[[Any], Array]


def load_frozen_graph(
    path: str, threads: int, ends: Ends = NO_ENDS, size: int | None = None
) -> Loaded:
    """Load the frozen graph at `path`; a call goes from one float32 image to the output's array.

    Input and output are those of `contract.json` beside the graph, if that is of this graph; else
    those that `ends` name; else the only placeholder and the only node without consumers. `size`
    is the side of an image in pixels, for a graph that leaves it open. Raises BadData.
    """
    import tensorflow as tf

    start = time.perf_counter()
    graph, contract = load_with_contract(Path(path), threads, ends)
    load_s = time.perf_counter() - start
    tensor = draw_input(graph, contract, size, path)
    counted = multiply_adds(
        (node.type, node.inputs[1].shape, node.outputs[0].shape)
        for node in graph.source.graph.get_operations()
        if len(node.inputs) > 1
    )
    about = About("TensorFlow", tf.__version__, None, tensor.dtype.name, load_s, counted)
    steps = photo_steps(contract.input, False, graph.infer) if contract else ()
    return Loaded(partial(graph.infer, tensor), about, steps)


def load_with_contract(
    path: Path, threads: int, ends: Ends = NO_ENDS
) -> tuple[Graph, Contract | None]:
    """Return the graph at `path`, and the contract beside it if that is of this graph."""
    beside = path.with_name("contract.json")
    if beside.exists() and not any(ends):
        contract = Contract.from_json(beside.read_bytes())
        if contract.graph_sha256 == hashlib.sha256(path.read_bytes()).hexdigest():
            return load_graph(path, ("input", contract.output), threads), contract
    return load_graph(path, ends, threads), None


def draw_input(graph: Graph, contract: Contract | None, size: int | None, path: str) -> Array:
    """Return an image for `graph`: normalised as its contract says, or random numbers."""
    if contract:
        return normalise(draw_pixels(contract.input), contract.input)
    return random_tensor(*_input_shape(graph.source, size, path))


def load_saved_model(path: str, threads: int, size: int | None = None) -> Loaded:
    """Load the SavedModel folder `path`; a call is that of its default signature.

    `size` is the side of an image in pixels, for a model that leaves it open. Raises BadData for
    a signature that takes more than one tensor.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    start = time.perf_counter()
    try:
        model = tf.saved_model.load(path)
        inputs = model.signatures["serving_default"].structured_input_signature[1]
        ((name, spec),) = inputs.items()
    except Exception as error:  # TensorFlow and Python raise many kinds
        raise BadData(
            f"{path}: not a SavedModel whose signature serving_default takes one tensor"
        ) from error
    load_s = time.perf_counter() - start
    tensor = random_tensor(*_input_shape(spec, size, path))

    def call(model: Any) -> list[Array]:
        outputs = model.signatures["serving_default"](**{name: tf.constant(tensor)})
        return [output.numpy() for output in outputs.values()]

    # The call refers to the model: a signature alone does not keep its variables alive.
    about = About("TensorFlow", tf.__version__, None, tensor.dtype.name, load_s)
    return Loaded(partial(call, model), about)


def load_graph(path: Path, ends: Ends = NO_ENDS, threads: int = 0) -> Graph:
    """Return the frozen GraphDef at `path`; with 0 threads TensorFlow chooses their number.

    Raises BadData for a damaged file, and for one without the nodes `ends`.
    """
    import tensorflow as tf

    definition, graph = tf.compat.v1.GraphDef(), tf.Graph()
    content = path.read_bytes()
    try:
        definition.ParseFromString(content)
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        source, sink = (
            graph.get_tensor_by_name(f"{name.removesuffix(':0')}:0")
            for name in _find_ends(path, graph, ends)
        )
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        )
        # A session, because a pruned wrap_function formats its arguments into an exception at
        # every call, which takes 0.5 to 1 ms.
        session = tf.compat.v1.Session(graph=graph, config=settings)
        infer = session.make_callable(sink, [source])
    except BadData:
        raise
    except Exception as error:  # protobuf, TensorFlow and Python raise many kinds
        names = [repr(name) for name in ends if name]
        nodes = f" with the nodes {' and '.join(names)}" if names else ""
        raise BadData(f"{path}: damaged, or not a frozen graph{nodes}: make it again") from error
    return Graph(session, source, sink, infer)


def _find_ends(path: Path, graph: Any, ends: Ends) -> tuple[str, str]:
    """Return the names of input and output: those in `ends`, or the only ones in the graph."""
    operations = graph.get_operations()
    candidates = (
        [node.name for node in operations if node.type == "Placeholder"],
        [
            node.name
            for node in operations
            if node.outputs
            and node.type != "Const"  # not used any more
            and not any(output.consumers() for output in node.outputs)
        ],
    )
    source, sink = (
        name or (names[0] if len(names) == 1 else None)
        for name, names in zip(ends, candidates, strict=True)
    )
    if not source or not sink:
        inputs, outputs = (", ".join(names[:10]) or "none" for names in candidates)
        raise BadData(
            f"{path}: inputs {inputs}; outputs {outputs}: "
            "name one of each with `input_tensor` and `output_tensor`"
        )
    return source, sink


def _input_shape(tensor: Any, size: int | None, path: str) -> tuple[tuple[int, ...], Any]:
    """Return shape and type of one image for `tensor`, whose open sides are `size` pixels."""
    sides = [None, None, None, 3] if tensor.shape.rank is None else list(tensor.shape)
    shape = tuple(size if side is None else int(side) for side in sides[1:])
    fixed = tuple(side for side in shape if side is not None)
    if len(fixed) < len(shape):
        raise BadData(f"{path}: it does not say the size of an image: give `input_size`")
    return (1, *fixed), tensor.dtype.as_numpy_dtype
