"""Find the layers that an int8 model's error comes from.

TensorFlow's QuantizationDebugger measures a layer's own error: each layer of the int8 model gets
what the float layers before it would give
(https://www.tensorflow.org/lite/performance/quantization_debugger). The effect of that error on the
scores is another matter. The first layer of EfficientNet-Lite2, if it is int8, has one of the
smallest errors, 51 dB below its output, and causes the largest loss: the signal that distinguishes
one solar cell from another is smaller still.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.types_pb2 import DT_FLOAT

from retrain.frozen_graph import FrozenGraph
from retrain.isolated import run_isolated
from retrain.quantization.mixed_precision import float_layers
from retrain.quantization.quantize import (
    GraphFile,
    Pixels,
    calibration_inputs,
    create_converter,
    graph_file,
)
from retrain.settings.conversion import Quantization
from retrain.tf_graph import INPUT, import_graph, read, session_settings, tensorflow

_MAX_PHOTOS = 20
"""Photos that layers are explained with: for each photo, each layer runs the network once more."""


@dataclass(frozen=True, order=True)
class LayerError:
    """A quantized layer, and two ratios of signal to noise, as 10 log10 of powers.

    `signal_to_noise_db` is of its own output. `scores_db` is of the input of the output layer: how
    that differs from photo to photo, over how this layer's error changes it. It is None if that
    cannot be measured, because the graph has another name for the layer.
    """

    name: str
    signal_to_noise_db: float
    scores_db: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def explain(
    graph: FrozenGraph, quantization: Quantization, calibration: Pixels
) -> list[LayerError]:
    """Return the layers that are int8 in the model, those that move the scores most first.

    `calibration` is that of `quantize`. Layers without an error, as those that are all zero, are
    left out.
    """
    with graph_file(graph) as file:
        layers = run_isolated(
            "explaining", quantization.time_limit, _explain, file, quantization, calibration
        )
    return sorted(layers, key=lambda layer: (layer.scores_db is None, layer.scores_db or 0, layer))


def _explain(graph: GraphFile, quantization: Quantization, calibration: Pixels) -> list[LayerError]:
    effects: _ScoreEffects
    photos = calibration[:_MAX_PHOTOS]
    debugger = _create_debugger(
        create_converter(graph, quantization, calibration),
        lambda: effects.follow(calibration_inputs(photos, graph.spec)),
        signal=_signal,
        noise=_noise,
        effect=lambda *layer: effects.measure_next(*layer),
    )
    effects = _ScoreEffects(read(graph.path), graph.output, _layer_names(debugger))
    debugger.run()
    # Layers that stay in float32 have no error in the model.
    in_float = (
        float_layers(debugger.calibrated_model, quantization)
        if quantization.record.mixed_precision
        else set()
    )
    variance = float(np.var(effects.scores_without_error, axis=0).sum())
    return [
        LayerError(
            _layer_name(tensor),
            10 * math.log10(metrics["signal"] / metrics["noise"]),
            10 * math.log10(variance / metrics["effect"])
            if metrics["effect"] > 0 < variance
            else None,
        )
        for tensor, metrics in debugger.layer_statistics.items()
        if metrics["signal"] and metrics["noise"] and _layer_name(tensor) not in in_float
    ]


def _create_debugger(
    converter: Any, photos: Callable[[], Iterator[Any]], **metrics: Callable[..., float]
) -> Any:
    """Return a QuantizationDebugger that computes `metrics` of each layer for each photo."""
    lite = tensorflow().lite
    options = lite.experimental.QuantizationDebugOptions(layer_direct_compare_metrics=metrics)
    debugger = lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=photos, debug_options=options
    )
    # The debugger's own interpreter reuses a tensor's memory before the tensor is compared.
    debugger._quant_interpreter = lite.Interpreter(
        model_content=debugger.quant_model,
        experimental_op_resolver_type=lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    return debugger


def _layer_names(debugger: Any) -> list[str]:
    """Return the layers' names, in the order in which their metrics are computed."""
    return [_layer_name(tensor["name"]) for tensor in debugger._get_numeric_verify_tensor_details()]


def _layer_name(tensor: str) -> str:
    """Return the layer's name in the name of its comparison, NumericVerify/NAME1:INDEX.

    The digit distinguishes the copy that is compared from the layer itself.
    """
    return tensor.removeprefix("NumericVerify/").rpartition(":")[0][:-1]


class _ScoreEffects:
    """Measures how the input of a graph's output layer changes with an error in one layer.

    `scores_without_error` holds that input, for each photo of `follow`.
    """

    def __init__(self, graph_def: Any, output: str, layers: list[str]) -> None:
        v1 = tensorflow().compat.v1
        # A fused layer's name joins its operations', the last one first.
        operations = [layer.partition(";")[0] for layer in layers]
        in_graph = {node.name for node in graph_def.node}.intersection(operations)
        self._next_operation = cycle([name if name in in_graph else None for name in operations])
        self._no_errors = {f"error/{name}:0": np.float32(0) for name in in_graph}
        with v1.Graph().as_default() as loaded:
            import_graph(_add_errors(graph_def, in_graph))
        self._shapes = {name: loaded.get_tensor_by_name(f"{name}:0").shape for name in in_graph}
        self._session = v1.Session(graph=loaded, config=session_settings())
        self._scores = loaded.get_operation_by_name(output).inputs[0]
        self.scores_without_error: list[npt.NDArray[np.float32]] = []

    def follow(self, photos: Iterator[Any]) -> Iterator[Any]:
        """Yield `photos`, and note which one the layers are compared on."""
        for photo in photos:
            self._photo = photo[0]
            self.scores_without_error.append(self._run({}))
            yield photo

    def measure_next(
        self,
        expected: npt.NDArray[Any],
        quantized: npt.NDArray[Any],
        scale: float,
        zero_point: int,
    ) -> float:
        """Return how far the next layer's error moves the scores, squared; NaN if unknown."""
        operation = next(self._next_operation)
        if operation is None or not self._shapes[operation].is_compatible_with(quantized.shape):
            return math.nan
        error = (quantized.astype(np.float32) - zero_point) * np.float32(scale) - expected
        scores = self._run({f"error/{operation}:0": error})
        return float(np.square(scores - self.scores_without_error[-1]).sum())

    def _run(self, errors: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        feeds = {**self._no_errors, **errors, f"{INPUT}:0": self._photo}
        return np.asarray(self._session.run(self._scores, feeds))


def _add_errors(graph_def: Any, operations: set[str]) -> Any:
    """Return the GraphDef, with a placeholder error/NAME added to the output of each operation.

    One session then serves all layers. To feed the operations themselves would need one for each,
    and each would hold the weights.
    """
    extended = copy.deepcopy(graph_def)
    for node in extended.node:
        for place, name in enumerate(node.input):
            if name.removesuffix(":0") in operations:
                node.input[place] = f"moved/{name.removesuffix(':0')}"
    for name in sorted(operations):
        error = extended.node.add(name=f"error/{name}", op="Placeholder")
        error.attr["dtype"].type = DT_FLOAT
        moved = extended.node.add(name=f"moved/{name}", op="AddV2", input=[name, error.name])
        moved.attr["T"].type = DT_FLOAT
    return extended


def _signal(expected: npt.NDArray[Any], *_quantized: Any) -> float:
    """Return the mean square of a layer's output in float."""
    return float(np.mean(np.square(expected, dtype=np.float64)))


def _noise(
    expected: npt.NDArray[Any], quantized: npt.NDArray[Any], scale: float, zero_point: int
) -> float:
    """Return the mean square of a layer's own error."""
    error = expected - (quantized.astype(np.float64) - zero_point) * scale
    return float(np.mean(np.square(error)))
