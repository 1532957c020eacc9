"""How a graph may be quantized, and the TFLite converter that is told so."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from deploy.image import normalise
from deploy.system.temporary_files import scratch
from retrain.settings.conversion import Quantization
from retrain.tf_graph import lite_converter, tensorflow

Pixels = npt.NDArray[np.uint8]


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
    if how.kind.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if how.kind.calibrated:
        converter.representative_dataset = partial(feed, calibration, spec)
        builtins = tf.lite.OpsSet
        converter.target_spec.supported_ops = (
            [  # the second: what has no int16 kernel, such as L2_NORMALIZATION, stays in float32
                builtins.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                builtins.TFLITE_BUILTINS,
            ]
            if how.kind.activations == "int16"
            else [builtins.TFLITE_BUILTINS_INT8]
        )
    if how.kind.takes_bytes:
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8 if how.output == "uint8" else tf.float32
    if how.kind.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = how.per_tensor_dense
    return converter


def feed(calibration: Pixels, spec: InputSpec) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Give the calibration photos as the converter wants them."""
    return ([normalise(photo[np.newaxis], spec)] for photo in calibration)
