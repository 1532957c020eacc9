"""Convert a frozen graph to a TFLite flatbuffer by any recipe, in a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import normalise
from deploy.system.temporary_files import scratch
from retrain.frozen_graph import FrozenGraph
from retrain.isolated import run_isolated
from retrain.quantization.mixed_precision import quantize_partly
from retrain.settings.conversion import Quantization, list_recipes
from retrain.tf_graph import lite_converter, tensorflow
from retrain.tflite.model import read_model

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GraphFile:
    """A frozen graph in a file, for a process that is not sent the graph's bytes."""

    path: Path
    spec: InputSpec
    output: str


@contextmanager
def graph_file(graph: FrozenGraph) -> Iterator[GraphFile]:
    """Yield `graph` in a temporary file."""
    with scratch() as folder:
        path = folder / "graph.pb"
        path.write_bytes(graph.graph_def)
        yield GraphFile(path, graph.spec, graph.output)


def quantize(graph: FrozenGraph, quantization: Quantization, calibration: Pixels) -> bytes:
    """Return a TFLite flatbuffer that takes one photo, float32 or uint8 as its recipe says.

    `calibration` is uint8 (N, height, width, 3), from `span_byte_range`. Raises BadData if TFLite
    cannot convert the graph, and if a pixel could not be the byte of a uint8 input.
    """
    spec, record = graph.spec, quantization.record
    if record.has_uint8_input and spec.mean % 1:
        recipes = list_recipes(lambda recipe: not recipe.has_uint8_input, "or")
        raise BadData(
            f"the network's mean is {spec.mean:g}, and {record.name} needs a whole number. "
            f"Remedy: `recipe` {recipes}"
        )
    with graph_file(graph) as file:
        flatbuffer = run_isolated(
            f"converting with {record.name}",
            quantization.time_limit,
            _quantize,
            file,
            quantization,
            calibration,
        )
    if record.has_uint8_input:
        (image,) = read_model(flatbuffer).subgraphs[0].inputs
        (scale,), (zero_point,) = image.scales, image.zero_points
        if (np.float32(scale), zero_point) != (np.float32(1 / spec.std), spec.mean):
            raise BadData(
                f"the converter chose scale {scale} and zero point {zero_point} for the input, "
                f"not {1 / spec.std} and {spec.mean:g}: a pixel would not be its byte"
            )
    return flatbuffer


def _quantize(graph: GraphFile, quantization: Quantization, calibration: Pixels) -> bytes:
    converter = create_converter(graph, quantization, calibration)
    if quantization.record.mixed_precision:
        return quantize_partly(converter, quantization, graph.spec)
    flatbuffer: bytes = converter.convert()
    return flatbuffer


def create_converter(graph: GraphFile, quantization: Quantization, calibration: Pixels) -> Any:
    """Return the TFLiteConverter of the graph, with the settings of `quantization`."""
    tf, record = tensorflow(), quantization.record
    converter = lite_converter(graph.path, graph.spec.height, graph.spec.width, graph.output)
    if record.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if record.needs_calibration:
        converter.representative_dataset = partial(calibration_inputs, calibration, graph.spec)
        builtins = tf.lite.OpsSet
        converter.target_spec.supported_ops = (
            [  # what has no int16 kernel, such as L2_NORMALIZATION, stays in float32
                builtins.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                builtins.TFLITE_BUILTINS,
            ]
            if record.activations == "int16"
            else [builtins.TFLITE_BUILTINS_INT8]
        )
        converter.inference_input_type = getattr(tf, record.input_type)
        converter.inference_output_type = getattr(tf, quantization.output)
    if record.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = (
        quantization.per_tensor_dense
    )
    return converter


def calibration_inputs(
    calibration: Pixels, spec: InputSpec
) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Yield the network's input for each calibration photo, as the converter takes it."""
    return ([normalise(photo[np.newaxis], spec)] for photo in calibration)


def span_byte_range(pixels: Pixels) -> Pixels:
    """Return uint8 (N, height, width, 3) with one black and one white value in the first photo.

    The converter derives the input's scale and zero point from the extremes in the calibration
    photos. With 0 and 255 among them, these are exactly 1 / std and mean, so that a pixel is its
    own byte.
    """
    pixels = pixels.copy()
    pixels[0, 0, 0, :2] = 0, 255
    return pixels
