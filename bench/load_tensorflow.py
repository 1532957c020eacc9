"""What can be timed with TensorFlow: a frozen graph, a SavedModel."""

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
    multiply_adds,
    photo_steps,
    picture,
    random_tensor,
)
from deploy.contract import Contract
from deploy.errors import BadData
from deploy.image import normalise

Ends = Sequence[str | None]
"""The names of the nodes to feed and to fetch, None where they are to be found."""
FIND: Ends = (None, None)


class Graph(NamedTuple):
    """A graph in a session; `infer` goes from the array for `source` to that of `sink`."""

    session: Any
    source: Any
    sink: Any
    infer: Callable[[Any], Array]


def frozen_graph(path: str, threads: int, ends: Ends = FIND, size: int | None = None) -> Loaded:
    """Load the frozen graph at `path`; a call takes one image, float32, to the output's array.

    `contract.json` beside the graph says what its input and output are, if it is of that graph;
    else `ends` name them, or they are its only placeholder and its only dead end. `size` is the
    side of an image where the graph does not tell. Raises BadData.
    """
    import tensorflow as tf

    start = time.perf_counter()
    graph, contract = ready(Path(path), threads, ends)
    load_s = time.perf_counter() - start
    tensor = image_for(graph, contract, size, path)
    counted = multiply_adds(
        (each.type, each.inputs[1].shape, each.outputs[0].shape)
        for each in graph.source.graph.get_operations()
        if len(each.inputs) > 1
    )
    about = About("TensorFlow", tf.__version__, None, tensor.dtype.name, load_s, counted)
    steps = photo_steps(contract.input, False, graph.infer) if contract else ()
    return Loaded(partial(graph.infer, tensor), about, steps)


def ready(path: Path, threads: int, ends: Ends = FIND) -> tuple[Graph, Contract | None]:
    """Return the graph at `path`, and the contract beside it if that is of this graph."""
    beside = path.with_name("contract.json")
    if beside.exists() and not any(ends):
        contract = Contract.from_json(beside.read_bytes())
        if contract.graph_sha256 == hashlib.sha256(path.read_bytes()).hexdigest():
            return load_graph(path, ("input", contract.output), threads), contract
    return load_graph(path, ends, threads), None


def image_for(graph: Graph, contract: Contract | None, size: int | None, path: str) -> Array:
    """Return an image for `graph`: a picture as its contract wants it, or random numbers."""
    if contract:
        return normalise(picture(contract.input), contract.input)
    return random_tensor(*_form(graph.source, size, path))


def saved_model(path: str, threads: int, size: int | None = None) -> Loaded:
    """Load the SavedModel folder `path`; a call is its signature's, array to array.

    Raises BadData for one whose default signature takes more than one tensor.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    start = time.perf_counter()
    try:
        model = tf.saved_model.load(path)
        asked = model.signatures["serving_default"].structured_input_signature[1]
        ((name, spec),) = asked.items()
    except Exception as error:  # TensorFlow and Python each have their own
        raise BadData(
            f"{path}: not a SavedModel whose signature serving_default takes one tensor"
        ) from error
    load_s = time.perf_counter() - start
    tensor = random_tensor(*_form(spec, size, path))

    def call(model: Any) -> list[Array]:
        outputs = model.signatures["serving_default"](**{name: tf.constant(tensor)})
        return [each.numpy() for each in outputs.values()]

    # The call holds the model: a signature alone does not keep its variables.
    about = About("TensorFlow", tf.__version__, None, tensor.dtype.name, load_s)
    return Loaded(partial(call, model), about)


def load_graph(path: Path, ends: Ends = FIND, threads: int = 0) -> Graph:
    """Return the frozen GraphDef at `path`; 0 threads are TensorFlow's own choice.

    Raises BadData for a file that is damaged or does not have the nodes `ends`.
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
            for name in _found(path, graph, ends)
        )
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        )
        # The shortest way into TensorFlow: a pruned wrap_function formats its arguments into an
        # exception of its own at every call, half a millisecond to a whole one.
        session = tf.compat.v1.Session(graph=graph, config=settings)
        infer = session.make_callable(sink, [source])
    except BadData:
        raise
    except Exception as error:  # protobuf, TensorFlow and Python each have their own
        known = [repr(name) for name in ends if name]
        nodes = f" with the nodes {' and '.join(known)}" if known else ""
        raise BadData(f"{path}: damaged, or not a frozen graph{nodes}: make it again") from error
    return Graph(session, source, sink, infer)


def _found(path: Path, graph: Any, ends: Ends) -> tuple[str, str]:
    operations = graph.get_operations()
    choices = (
        [each.name for each in operations if each.type == "Placeholder"],
        [
            each.name
            for each in operations
            if each.outputs
            and each.type != "Const"  # left over
            and not any(out.consumers() for out in each.outputs)
        ],
    )
    source, sink = (
        name or (known[0] if len(known) == 1 else None)
        for name, known in zip(ends, choices, strict=True)
    )
    if not source or not sink:
        likely = [", ".join(names[:10]) or "none" for names in choices]
        raise BadData(
            f"{path}: inputs {likely[0]}; outputs {likely[1]}: "
            "name one of each with --input-tensor and --output-tensor"
        )
    return source, sink


def _form(tensor: Any, size: int | None, path: str) -> tuple[tuple[int, ...], Any]:
    """Return shape and type of one image for `tensor`, which may leave its sides open."""
    sides = [None, None, None, 3] if tensor.shape.rank is None else list(tensor.shape)
    shape = tuple(size if side is None else int(side) for side in sides[1:])
    known = tuple(side for side in shape if side is not None)
    if len(known) < len(shape):
        raise BadData(f"{path}: it does not tell the size of an image: give --input-size")
    return (1, *known), tensor.dtype.as_numpy_dtype
