"""Which layers an int8 model's error comes from, and int8 models that keep some in float32.

Both are TensorFlow's QuantizationDebugger: each layer of the int8 model is given what the float
layers before it would give, so that its error is its own
(https://www.tensorflow.org/lite/performance/quantization_debugger).
"""

import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from deploy.errors import WrongUse
from retrain.apart import apart
from retrain.recipes import Pixels, Quantization, converter_of, feed, on_disk


class Layer(NamedTuple):
    """A layer that is quantized, and 10 log10 of its output's power over that of its error."""

    name: str
    signal_to_noise_db: float


def explain(
    graph: bytes, how: Quantization, calibration: Pixels, spec: InputSpec, output: str
) -> list[Layer]:
    """Return the layers of the int8 model of `graph`, the noisiest first; see `quantize`.

    Those without error are left out, as those that are all zero.
    """
    with on_disk(graph) as path:
        layers = apart("explaining", how.seconds, _explain, path, how, calibration, spec, output)
    return sorted(layers, key=lambda layer: layer.signal_to_noise_db)


def partly_quantized(
    converter: Any, how: Quantization, calibration: Pixels, spec: InputSpec
) -> bytes:
    """Return the flatbuffer of `converter`'s int8 model, the layers `how.keep_float` in float32.

    Raises WrongUse for a layer that is not there.
    """
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.util import modify_model_io_type

    debugger = _debugger(converter, calibration, spec)
    names = [_name(each["name"]) for each in debugger._get_numeric_verify_tensor_details()]
    unknown = set(how.keep_float) - set(names)
    if unknown:
        raise WrongUse(f"--keep-float: no layer {', '.join(sorted(unknown))}: see --explain")
    quantized = mlir_quantize(debugger.calibrated_model, denylisted_nodes=list(how.keep_float))
    types = (converter.inference_input_type, converter.inference_output_type)
    return bytes(modify_model_io_type(quantized, *types))


def _debugger(converter: Any, calibration: Pixels, spec: InputSpec) -> Any:
    from retrain.graph import tensorflow

    experimental = tensorflow().lite.experimental
    return experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=partial(feed, calibration, spec),
        debug_options=experimental.QuantizationDebugOptions(
            layer_direct_compare_metrics={"signal": _signal, "noise": _noise}
        ),
    )


def _explain(
    graph: Path, how: Quantization, calibration: Pixels, spec: InputSpec, output: str
) -> list[Layer]:
    debugger = _debugger(converter_of(graph, how, calibration, spec, output), calibration, spec)
    debugger.run()
    return [
        Layer(_name(tensor), 10 * math.log10(found["signal"] / found["noise"]))
        for tensor, found in debugger.layer_statistics.items()
        if found["signal"] and found["noise"]
    ]


def _name(tensor: str) -> str:
    """Return the layer's name in the name of its comparison, NumericVerify/NAME1:INDEX.

    The digit tells the copy that is compared from the layer itself.
    """
    return tensor.removeprefix("NumericVerify/").rpartition(":")[0][:-1]


def _signal(expected: npt.NDArray[Any], *_quantized: Any) -> float:
    return float(np.mean(np.square(expected, dtype=np.float64)))


def _noise(
    expected: npt.NDArray[Any], found: npt.NDArray[Any], scale: float, zero_point: int
) -> float:
    return float(np.mean(np.square(expected - (found.astype(np.float64) - zero_point) * scale)))
