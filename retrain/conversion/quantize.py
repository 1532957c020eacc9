"""How a graph may be quantized, and the TFLite converter that is told so."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from deploy.errors import WrongUse
from deploy.image import normalise
from deploy.system.temporary_files import scratch
from retrain.tf_graph import lite_converter, tensorflow

Pixels = npt.NDArray[np.uint8]
_DAY = 86_400


class Recipe(NamedTuple):
    """`ranges` tells whether activations are integers, which need photos.

    `integer` tells whether the input is uint8, a pixel its own byte.
    """

    ranges: bool = False
    integer: bool = False


RECIPES = {
    "int8": Recipe(ranges=True, integer=True),
    "dynamic": Recipe(),
    "float16": Recipe(),
    "float32": Recipe(),
    "int16x8": Recipe(ranges=True),
    "int8-edgetpu": Recipe(ranges=True, integer=True),
}
CHOICES = tuple(name for name in RECIPES if name != "int8-edgetpu")
"""What is tried for whoever does not choose: the Edge TPU's is int8 with another output."""


@dataclass(frozen=True)
class Quantization:
    """How to convert.

    `output_type` is float32 or uint8. Of int8 the first layer stays in float32, whose rounding
    costs most and whose speed matters least, and so do the layers `keep_float`, as
    `layers.explain` names them; what reads any of them is float32 too, or would round what it is
    given. `per_tensor_dense` gives dense layers one scale, which older runtimes need with
    `dynamic`. A conversion may take `seconds`, a day at most.
    """

    recipe: str = "int8"
    output_type: str = "float32"
    keep_float: tuple[str, ...] = ()
    per_tensor_dense: bool = False
    seconds: float = 1800

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise WrongUse(f"no recipe {self.recipe}: there is {', '.join(RECIPES)}")
        if self.output_type == "uint8" and not self.kind.integer:
            raise WrongUse(f"--output-type uint8 is for int8, not for {self.recipe}")
        if self.keep_float and self.recipe != "int8":
            raise WrongUse(f"--keep-float is for int8, not for {self.recipe}")
        if not 0 < self.seconds <= _DAY:  # NaN is not either
            raise WrongUse(f"--time-limit {self.seconds:g}: above 0, up to {_DAY:,} seconds")

    @property
    def output(self) -> str:
        """The type of the output."""
        return "uint8" if self.recipe == "int8-edgetpu" else self.output_type

    @property
    def kind(self) -> Recipe:
        """The recipe itself."""
        return RECIPES[self.recipe]


@contextmanager
def on_disk(graph: bytes) -> Iterator[Path]:
    """Give the path of a file that holds `graph`, which a process need not be sent then."""
    with scratch() as folder:
        path = folder / "graph.pb"
        path.write_bytes(graph)
        yield path


def spanned(pixels: Pixels) -> Pixels:
    """Return uint8 (N, height, width, 3) with one black and one white value in the first photo.

    The converter takes the input's scale and zero point from the extremes it sees: with both ends
    of 0..255 there they are exactly 1 / std and mean, and a pixel's byte is the input's byte.
    """
    pixels = pixels.copy()
    pixels[0, 0, 0, :2] = 0, 255
    return pixels


def converter_of(
    graph: Path, how: Quantization, calibration: Pixels, spec: InputSpec, output: str
) -> Any:
    """Return the TFLiteConverter that `how` asks for, of the frozen graph in the file `graph`."""
    tf = tensorflow()
    converter = lite_converter(graph, spec.height, spec.width, output)
    if how.recipe != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if how.kind.ranges:
        converter.representative_dataset = partial(feed, calibration, spec)
        builtins = tf.lite.OpsSet
        converter.target_spec.supported_ops = (
            [  # the second: what has no int16 kernel, such as L2_NORMALIZATION, stays in float32
                builtins.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                builtins.TFLITE_BUILTINS,
            ]
            if how.recipe == "int16x8"
            else [builtins.TFLITE_BUILTINS_INT8]
        )
    if how.kind.integer:
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8 if how.output == "uint8" else tf.float32
    if how.recipe == "float16":
        converter.target_spec.supported_types = [tf.float16]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = how.per_tensor_dense
    return converter


def feed(calibration: Pixels, spec: InputSpec) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Give the calibration photos as the converter wants them."""
    return ([normalise(photo[np.newaxis], spec)] for photo in calibration)
