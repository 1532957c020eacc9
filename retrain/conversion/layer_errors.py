"""Which layers an int8 model's error comes from.

Layers' errors are told by TensorFlow's QuantizationDebugger: each layer of the int8 model is given
what the float layers before it would give, so that its error is its own
(https://www.tensorflow.org/lite/performance/quantization_debugger). What that error does to the
scores is another matter. The first layer of EfficientNet-Lite2, where it is int8, has one of the
smallest errors, 51 dB below its output, and loses most: what tells one solar cell from another is
smaller still.
"""

import math
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from retrain.conversion.mixed_precision import in_float
from retrain.conversion.quantize import Pixels, converter_of, feed, on_disk
from retrain.isolated import run_isolated
from retrain.settings.conversion import Quantization
from retrain.tf_graph import INPUT, read, session_settings, tensorflow

_PHOTOS = 20
"""That layers are explained by: each layer runs the network on each once more."""


class Layer(NamedTuple):
    """A layer that is quantized, and two ratios of signal to noise, as 10 log10 of powers.

    `signal_to_noise_db` is of its own output. `scores_db` is of what the output layer is given: how
    that differs from photo to photo, over how this layer's error moves it; None if that is not
    known, for a layer that the graph calls otherwise.
    """

    name: str
    signal_to_noise_db: float
    scores_db: float | None


def explain(
    graph: bytes, how: Quantization, calibration: Pixels, spec: InputSpec, output: str
) -> list[Layer]:
    """Return the layers that are int8 in the model of `graph`, that to blame most first.

    See `quantize`. Those without error are left out, as those that are all zero.
    """
    with on_disk(graph) as path:
        layers = run_isolated(
            "explaining", how.seconds, _explain, path, how, calibration, spec, output
        )
    return sorted(layers, key=lambda layer: (layer.scores_db is None, layer.scores_db or 0, layer))


def _debugger(converter: Any, photos: Callable[[], Iterator[Any]], **metrics: Any) -> Any:
    lite = tensorflow().lite
    options = lite.experimental.QuantizationDebugOptions(layer_direct_compare_metrics=metrics)
    made = lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=photos, debug_options=options
    )
    # Its own, made from a converter, uses a tensor's memory again before it is compared.
    made._quant_interpreter = lite.Interpreter(
        model_content=made.quant_model,
        experimental_op_resolver_type=lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    return made


def _names(debugger: Any) -> list[str]:
    """Return the layers' names, in the order in which their metrics are asked for."""
    return [_name(each["name"]) for each in debugger._get_numeric_verify_tensor_details()]


def _explain(
    graph: Path, how: Quantization, calibration: Pixels, spec: InputSpec, output: str
) -> list[Layer]:
    scores: _Scores
    debugger = _debugger(
        converter_of(graph, how, calibration, spec, output),
        lambda: scores.follow(feed(calibration[:_PHOTOS], spec)),
        signal=_signal,
        noise=_noise,
        moved=lambda *layer: scores.moved(*layer),
    )
    scores = _Scores(read(graph), output, _names(debugger))
    debugger.run()
    # What the int8 model keeps in float32 has no error there; int8-edgetpu keeps nothing.
    kept = in_float(debugger.calibrated_model, how) if how.kind.mixed_precision else set()
    differ = float(np.var(scores.plain, axis=0).sum())
    return [
        Layer(
            _name(tensor),
            10 * math.log10(found["signal"] / found["noise"]),
            10 * math.log10(differ / found["moved"]) if found["moved"] > 0 < differ else None,
        )
        for tensor, found in debugger.layer_statistics.items()
        if found["signal"] and found["noise"] and _name(tensor) not in kept
    ]


class _Scores:
    """What the output layer of a graph is given, once an error is added to one layer's output.

    `plain` holds that without an error, for each photo of `follow`.
    """

    def __init__(self, graph: Any, output: str, layers: list[str]) -> None:
        v1 = tensorflow().compat.v1
        # A fused layer's name joins its operations', the last one first.
        operations = [layer.partition(";")[0] for layer in layers]
        known = {node.name for node in graph.node}.intersection(operations)
        self._turns = cycle([each if each in known else None for each in operations])
        self._none = {f"{each}/error:0": np.float32(0) for each in known}
        with v1.Graph().as_default() as loaded:
            v1.import_graph_def(_with_errors(graph, known), name="")
        self._shapes = {each: loaded.get_tensor_by_name(f"{each}:0").shape for each in known}
        self._session = v1.Session(graph=loaded, config=session_settings())
        self._scores = loaded.get_operation_by_name(output).inputs[0]
        self.plain: list[npt.NDArray[np.float32]] = []

    def follow(self, photos: Iterator[Any]) -> Iterator[Any]:
        """Give `photos` on, each to be the one that layers are compared on next."""
        for photo in photos:
            self._photo = photo[0]
            self.plain.append(self._run({}))
            yield photo

    def moved(
        self, expected: npt.NDArray[Any], found: npt.NDArray[Any], scale: float, zero_point: int
    ) -> float:
        """Return how far the next layer's error moves the scores, squared; NaN if not known."""
        operation = next(self._turns)
        if operation is None or not self._shapes[operation].is_compatible_with(found.shape):
            return math.nan
        error = (found.astype(np.float32) - zero_point) * np.float32(scale) - expected
        scores = self._run({f"{operation}/error:0": error})
        return float(np.square(scores - self.plain[-1]).sum())

    def _run(self, errors: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        feeds = {**self._none, **errors, f"{INPUT}:0": self._photo}
        return np.asarray(self._session.run(self._scores, feeds))


def _with_errors(graph: Any, operations: set[str]) -> Any:
    """Return the GraphDef `graph`, a placeholder NAME/error added to each output in `operations`.

    One session then serves all: one for each, made by feeding an operation, would hold the weights
    as many times.
    """
    tf = tensorflow()
    made = tf.compat.v1.GraphDef()
    made.CopyFrom(graph)
    for node in made.node:
        for place, name in enumerate(node.input):
            if name.removesuffix(":0") in operations:
                node.input[place] = f"{name.removesuffix(':0')}/moved"
    for name in sorted(operations):
        error = made.node.add(name=f"{name}/error", op="Placeholder")
        error.attr["dtype"].type = tf.float32.as_datatype_enum
        moved = made.node.add(name=f"{name}/moved", op="AddV2", input=[name, error.name])
        moved.attr["T"].type = tf.float32.as_datatype_enum
    return made


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
