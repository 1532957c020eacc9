"""What can be timed without TensorFlow, loaded for one call on one image, and how it is told."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import __version__ as pillow_version

from deploy import model_file, untrusted_files
from deploy.contract import InputSpec
from deploy.errors import BadData, MissingPackage
from deploy.image import normalise, open_image, to_pixels
from deploy.runtime import Model, find_runtime

Array = npt.NDArray[Any]
Step = tuple[str, Callable[[Any], Any]]


class About(NamedTuple):
    """What runs, and how; `load_s` is from the file on disk to a model that can be called.

    `delegate` has the nodes that it took of all, such as "XNNPACK 3/12". `input` is the type of
    the model's tensor, `multiply_adds` are those of one call, None if unknown.
    """

    runtime: str
    version: str
    delegate: str | None
    input: str
    load_s: float
    multiply_adds: int | None = None


class Loaded(NamedTuple):
    """What is ready: `call` is what is timed; `steps` lead from a photo's bytes to the output."""

    call: Callable[[], Any]
    about: About
    steps: Sequence[Step] = ()


def installed() -> dict[str, Any]:
    """Return what the Python that this is called in has: runtimes, and why others do not load."""
    modules = {"LiteRT": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
    runtimes = ["TensorFlow"] if find_spec("tensorflow") else []
    unusable = {}
    for name in (name for name, module in modules.items() if find_spec(module)):
        try:
            runtimes.append(find_runtime(name).name)
        except MissingPackage as error:
            unusable[name] = str(error)
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "numpy": np.__version__,
        "pillow": pillow_version,
        "runtimes": runtimes,
        "unusable": unusable,
    }


def tflite(path: str, threads: int, runtime: str | None = None) -> Loaded:
    """Load the .tflite file at `path`, one of `retrain convert` or any with one input.

    A call goes from an array of the type and shape that the model asks for to the float32 array
    (classes,). A file without a contract gets random input and has no steps. Raises BadData.
    """
    find_runtime(runtime)  # imported before the clock starts
    start = time.perf_counter()
    try:
        content = untrusted_files.read(Path(path), model_file.MAX_MODEL_BYTES)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    contract = None
    if b"contract.json" in content:  # one of ours, which must then be whole
        file = model_file.read(Path(path))
        content, contract = file.flatbuffer, file.contract
    model = Model(content, threads, runtime)
    load_s = time.perf_counter() - start
    interpreter = model._interpreter
    if len(interpreter.get_input_details()) != 1:
        raise BadData(f"{path}: more than one input: only models of one image are timed")
    nodes = interpreter._get_ops_details()
    shapes = {each["index"]: each["shape"] for each in interpreter.get_tensor_details()}
    counted = multiply_adds(
        (node["op_name"], shapes.get(node["inputs"][1]), shapes[node["outputs"][0]])
        for node in nodes
        if len(node["inputs"]) > 1
    )
    name, version, _ = model.runtime
    kind = model.input_dtype.name
    about = About(name, version, delegate(nodes), kind, load_s, counted)
    if contract is None:
        tensor = random_tensor(model.input_shape, model.input_dtype)
        return Loaded(partial(model, tensor), about)
    spec, raw = contract.input, model.input_dtype == np.uint8
    pixels = picture(spec)
    call = partial(model, pixels if raw else normalise(pixels, spec))
    return Loaded(call, about, photo_steps(spec, raw, model))


def delegate(nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which delegate took how many of an interpreter's nodes, as "XNNPACK 3/12", or None.

    A delegate is a node DELEGATE beside those that it took over, which are all that its outputs
    need from its inputs on. Unasked, both runtimes apply only XNNPACK.
    """
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    producer = {output: i for i, node in enumerate(own) for output in node["outputs"]}
    taken: set[int] = set()
    for node in nodes:
        if node["op_name"] != "DELEGATE":
            continue
        given, wanted = set(node["inputs"]), list(node["outputs"])
        while wanted:
            i = producer.get(wanted.pop())
            if i is not None and i not in taken:
                taken.add(i)
                wanted += set(own[i]["inputs"]) - given
    return f"XNNPACK {len(taken)}/{len(own)}" if taken else None


def product(sides: Sequence[int]) -> Loaded:
    """Make a product of two float32 matrices, of the side that numpy's BLAS is best at."""
    random = np.random.default_rng(0)

    def paced(side: int) -> tuple[float, int, Callable[[], Any]]:
        left, right = random.random((2, side, side), np.float32)
        call = partial(np.matmul, left, right, np.empty_like(left))
        call()
        start = time.perf_counter()
        for _ in range(3):
            call()
        return side**3 / (time.perf_counter() - start), side, call

    _, side, call = max(map(paced, sides), key=itemgetter(0))
    return Loaded(call, About("numpy", np.__version__, None, "float32", 0.0, side**3))


def multiply_adds(operators: Iterable[tuple[str, Any, Any]]) -> int | None:
    """Return those of one image, of each operator's kind, kernel shape and output shape.

    Every place of the output, but for its channels, meets every number of the kernel once: that
    holds for convolutions, depthwise ones and products with weights. None if there are none, or
    a shape is not known.
    """
    kinds = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    kinds |= {"Conv2D", "DepthwiseConv2dNative", "MatMul"}
    try:
        return (
            sum(
                math.prod(map(int, output[1:-1])) * math.prod(map(int, kernel))
                for kind, kernel, output in operators
                if kind in kinds
            )
            or None
        )
    except (TypeError, ValueError):
        return None


def picture(spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3), smooth as a photo is and always the same."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return to_pixels(Image.fromarray(coarse), spec)


def photo_steps(spec: InputSpec, raw: bool, infer: Callable[[Any], Any]) -> tuple[Step, ...]:
    """Return the steps of a photo by name; `raw` models take pixels, others normalised ones."""

    def preprocess(image: Image.Image) -> Array:
        pixels = to_pixels(image, spec)
        return pixels if raw else normalise(pixels, spec)

    return (
        ("decode", partial(open_image, spec=spec)),
        ("preprocess", preprocess),
        ("invoke", infer),
    )


def random_tensor(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return numbers of -1..1, or whole ones of all that `dtype` holds; always the same."""
    random = np.random.default_rng(0)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return random.uniform(-1, 1, shape).astype(dtype)
