"""Load what can be timed without TensorFlow: a .tflite file, a product of matrices, a photo."""

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
    """What runs a model; `load_s` are the seconds from the file to a model that can be called.

    `delegate` says how many of all nodes it runs, such as "XNNPACK 3/12". `input` is the type of
    the model's tensor; `multiply_adds` are those of one call, None if unknown.
    """

    runtime: str
    version: str
    delegate: str | None
    input: str
    load_s: float
    multiply_adds: int | None = None


class Loaded(NamedTuple):
    """A model to time: `call` runs it once; `steps` lead from a photo's bytes to the output."""

    call: Callable[[], Any]
    about: About
    steps: Sequence[Step] = ()


def describe_python() -> dict[str, Any]:
    """Return this Python's versions and runtimes, and why other runtimes do not load, as JSON."""
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


def load_tflite(path: str, threads: int, runtime: str | None = None) -> Loaded:
    """Load the .tflite file at `path`, from `retrain convert` or any other with one input.

    A call goes from an array of the model's input type and shape to float32 (classes,). A file
    without a contract gets random input and has no steps. Raises BadData.
    """
    find_runtime(runtime)  # imported before the clock starts
    start = time.perf_counter()
    try:
        content = untrusted_files.read(Path(path), untrusted_files.MAX_MODEL_BYTES)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    contract = None
    if b"contract.json" in content:  # of `retrain convert`: it must be whole
        file = model_file.read(Path(path))
        content, contract = file.flatbuffer, file.contract
    model = Model(content, threads, runtime)
    load_s = time.perf_counter() - start
    interpreter = model._interpreter
    if len(interpreter.get_input_details()) != 1:
        raise BadData(f"{path}: more than one input: only models of one image are timed")
    nodes = interpreter._get_ops_details()
    shapes = {tensor["index"]: tensor["shape"] for tensor in interpreter.get_tensor_details()}
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
    pixels = draw_pixels(spec)
    call = partial(model, pixels if raw else normalise(pixels, spec))
    return Loaded(call, about, photo_steps(spec, raw, model))


def delegate(nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """Return how many of an interpreter's nodes a delegate runs, as "XNNPACK 3/12", or None.

    A delegate is a node DELEGATE beside those that it runs: all nodes between its inputs and its
    outputs. By default both runtimes apply only XNNPACK.
    """
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    producer = {output: i for i, node in enumerate(own) for output in node["outputs"]}
    delegated: set[int] = set()
    for node in nodes:
        if node["op_name"] != "DELEGATE":
            continue
        inputs, tensors = set(node["inputs"]), list(node["outputs"])
        while tensors:
            i = producer.get(tensors.pop())
            if i is not None and i not in delegated:
                delegated.add(i)
                tensors += set(own[i]["inputs"]) - inputs
    return f"XNNPACK {len(delegated)}/{len(own)}" if delegated else None


def load_product(sides: Sequence[int]) -> Loaded:
    """Load a product of two float32 matrices, with the one of `sides` at which numpy is best."""
    random = np.random.default_rng(0)

    def product_of(side: int) -> tuple[float, int, Callable[[], Any]]:
        """Return multiply-adds a second, the side, and the call."""
        left, right = random.random((2, side, side), np.float32)
        call = partial(np.matmul, left, right, np.empty_like(left))
        call()
        start = time.perf_counter()
        for _ in range(3):
            call()
        return side**3 / (time.perf_counter() - start), side, call

    _, side, call = max(map(product_of, sides), key=itemgetter(0))
    return Loaded(call, About("numpy", np.__version__, None, "float32", 0.0, side**3))


def multiply_adds(operators: Iterable[tuple[str, Any, Any]]) -> int | None:
    """Return the multiply-adds of one image, from kind, kernel shape and output shape.

    In convolutions, depthwise ones, and products with weights, every number of the kernel is used
    once at every place of the output. None if there are no such operators, or a shape is unknown.
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


def draw_pixels(spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3), smooth as a photo, the same at every call."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return to_pixels(Image.fromarray(coarse), spec)


def draw_photo(path: Path) -> Path:
    """Write a JPEG of 1280x960, as small cameras make them, to `path`, and return the path.

    It has soft patches of colour under fine noise, because decoding takes longer the more is
    encoded: here about a third of a megabyte. The file is the same at every call.
    """
    random = np.random.default_rng(0)
    patches = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(patches.resize((1280, 960), Image.Resampling.BICUBIC), np.float32)
    noisy = smooth + random.normal(0, 6, (960, 1280, 1))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def photo_steps(spec: InputSpec, raw: bool, infer: Callable[[Any], Any]) -> tuple[Step, ...]:
    """Return the named steps of a photo; a `raw` model takes uint8 pixels, not normalised."""

    def preprocess(image: Image.Image) -> Array:
        pixels = to_pixels(image, spec)
        return pixels if raw else normalise(pixels, spec)

    return (
        ("decode", partial(open_image, spec=spec)),
        ("preprocess", preprocess),
        ("invoke", infer),
    )


def random_tensor(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return floats from -1 to 1, or integers of the whole range of `dtype`.

    They are the same at every call.
    """
    random = np.random.default_rng(0)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return random.uniform(-1, 1, shape).astype(dtype)
