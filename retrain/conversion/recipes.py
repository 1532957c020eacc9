"""From a frozen graph to a TFLite model by any recipe, converted in a process of its own."""

from pathlib import Path

import numpy as np

from deploy.contract import InputSpec
from deploy.errors import BadData
from retrain.conversion.mixed_precision import partly_quantized
from retrain.conversion.quantize import Pixels, converter_of, on_disk
from retrain.isolated import run_isolated
from retrain.settings.conversion import Quantization
from retrain.tf_graph import tensorflow


def quantize(
    graph: bytes, how: Quantization, calibration: Pixels, spec: InputSpec, output: str
) -> bytes:
    """Return a TFLite flatbuffer of one photo in, float32 or uint8 as `how` says.

    `graph` is a frozen GraphDef whose operation `output` gives probabilities, `calibration` uint8
    (N, height, width, 3), as in `spanned`. Raises BadData when TFLite does not convert it, or when
    a pixel could not be the byte of a uint8 input.
    """
    if how.kind.takes_bytes and spec.mean % 1:
        raise BadData(
            f"the network's mean is {spec.mean:g}, and {how.recipe} needs a whole number. "
            "Remedy: --quantize float32, float16 or dynamic"
        )
    what = f"converting with {how.recipe}"
    with on_disk(graph) as path:
        flatbuffer, (scale, zero_point) = run_isolated(
            what, how.seconds, _quantize, path, how, calibration, spec, output
        )
    if how.kind.takes_bytes and (np.float32(scale), zero_point) != (
        np.float32(1 / spec.std),
        spec.mean,
    ):
        raise BadData(
            f"the converter made the input's scale {scale} and zero point {zero_point}, "
            f"not {1 / spec.std} and {spec.mean:g}: a pixel would not be its byte"
        )
    return flatbuffer


def _quantize(
    graph: Path, how: Quantization, calibration: Pixels, spec: InputSpec, output: str
) -> tuple[bytes, tuple[float, int]]:
    tf = tensorflow()
    converter = converter_of(graph, how, calibration, spec, output)
    flatbuffer: bytes = (
        partly_quantized(converter, how, spec) if how.kind.mixed_precision else converter.convert()
    )
    detail = tf.lite.Interpreter(model_content=flatbuffer).get_input_details()[0]
    return flatbuffer, detail["quantization"]
