"""The frozen graph and the .tflite file, each loaded to be timed on the same image."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.runners import About, Loaded
from deploy import metadata
from deploy.classifier import Classifier
from deploy.contract import Contract, InputSpec
from deploy.errors import BadData
from deploy.image import normalise, to_pixels
from deploy.runtime import find_runtime


def frozen_graph(path: Path, contract: Contract, threads: int) -> Loaded:
    """Load the retrained graph at `path`, to be given one image of `contract` at a time.

    A call goes from a float32 array (1, height, width, 3), normalised, to the array of
    probabilities (1, classes). Raises BadData.
    """
    import tensorflow as tf

    start = time.perf_counter()
    spec = contract.input
    infer = load_graph(path, contract.output, threads)
    call = partial(infer, normalise(picture(spec), spec))
    call()
    load_s = time.perf_counter() - start
    return Loaded(call, About("TensorFlow", tf.__version__, None, "float32", load_s))


def tflite(path: Path, threads: int) -> Loaded:
    """Load the .tflite file at `path`, to be given one image of its contract at a time.

    A call goes from an array (1, height, width, 3) of the type that the model asks for to the
    float32 array of probabilities (classes,). Raises BadData.
    """
    find_runtime()  # imported before the clock starts
    start = time.perf_counter()
    classifier = Classifier(metadata.read(path), threads)
    model, spec = classifier.model, classifier.contract.input
    pixels = picture(spec)
    call = partial(model, pixels if model.input_dtype == np.uint8 else normalise(pixels, spec))
    call()
    load_s = time.perf_counter() - start
    # What a delegate took over is a node of that name; unasked, both runtimes apply only XNNPACK.
    nodes = model._interpreter._get_ops_details()
    delegate = "XNNPACK" if any(node["op_name"] == "DELEGATE" for node in nodes) else None
    name, version, _ = model.runtime
    return Loaded(call, About(name, version, delegate, model.input_dtype.name, load_s))


def load_graph(path: Path, output: str, threads: int = 0) -> Callable[..., npt.NDArray[Any]]:
    """Return the frozen GraphDef at `path` as a function of the array for its node `input`.

    It returns the array of the node `output`; 0 threads are TensorFlow's own choice. Raises
    BadData for a file that is damaged or has no such nodes.
    """
    import tensorflow as tf

    content, definition, graph = path.read_bytes(), tf.compat.v1.GraphDef(), tf.Graph()
    try:
        definition.ParseFromString(content)
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        ends = [graph.get_tensor_by_name(f"{node}:0") for node in (output, "input")]
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        )
        # The shortest way into TensorFlow: a pruned wrap_function formats its arguments into an
        # exception of its own at every call, half a millisecond to a whole one.
        session = tf.compat.v1.Session(graph=graph, config=settings)
        infer: Callable[..., npt.NDArray[Any]] = session.make_callable(ends[0], ends[1:])
    except Exception as error:  # protobuf, TensorFlow and Python each have their own
        raise BadData(
            f"{path}: damaged, or not a frozen graph from `input` to `{output}`: make it again"
        ) from error
    return infer


def picture(spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3), smooth as a photo is and always the same."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return to_pixels(Image.fromarray(coarse), spec)
