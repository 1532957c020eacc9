"""Put a final layer on the bottleneck of a .tflite flatbuffer, without the converter."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from retrain.frozen_graph import BOTTLENECK
from retrain.tflite.edit import ModelEditor
from retrain.tflite.metadata import detach

RELU6_MAX = 6.0
"""Where RELU6 clips; familiarity is computed times this, to be clipped to 0..1 with it."""
_MAX_EXACT_BYTES = 64 * 1024
"""Weights up to this size are stored in float32. It is 12 classes of 1,280 values, and adds 2% to
a small network. Rounded weights spoil networks whose bottlenecks are large and nearly the same."""
_INT8_MAX = 127
_LEAST_SCALE = 1e-12
"""For a class whose weights are all 0."""

Floats = npt.NDArray[np.float32]


class Dense(NamedTuple):
    """A dense layer: float32 `weights` (D, C), and `bias` (C,)."""

    weights: Floats
    bias: Floats


@dataclass(frozen=True)
class FinalLayer:
    """What computes the scores of C classes from a bottleneck of width D.

    The scores are the softmax of `classes`. With `familiarity` they are multiplied by the largest
    of relu6(`familiarity`) / 6, which takes the bottleneck divided by its length.
    """

    classes: Dense
    familiarity: Dense | None = None


def replace_final_layer(
    flatbuffer: bytes, layer: FinalLayer, output: str, output_type: str = "float32"
) -> bytes:
    """Return the model whose only output, named `output`, is the layer's scores, (1, C).

    The model's float32 tensor BOTTLENECK stays as it is. All that was computed from it is removed,
    and so are the TFLite metadata, which describe the classes before. `output_type` is float32 or
    uint8. Raises BadData if the model has no such tensor of the layer's width.
    """
    editor = ModelEditor(flatbuffer)
    bottleneck = _cut(editor, len(layer.classes.weights))
    schema, width = editor.schema, len(layer.classes.bias)
    logits = _add_dense(editor, bottleneck, layer.classes, "logits")
    beta = schema.SoftmaxOptionsT(beta=1.0)
    scores = editor.add_operator("SOFTMAX", [logits], "probabilities", (1, width), beta)
    if layer.familiarity:
        familiarity = _add_familiarity(editor, bottleneck, layer.familiarity)
        scores = _multiply(editor, [scores, familiarity], "familiar_probabilities", width)
    if output_type == "uint8":
        scores = editor.add_operator(
            "QUANTIZE",
            [scores],
            "quantized_probabilities",
            (1, width),
            output_type="UINT8",
            scales=[1 / 256],
        )
    editor.graph.tensors[scores].name = output
    editor.graph.outputs = [scores]
    return editor.to_bytes()


def _cut(editor: ModelEditor, width: int) -> int:
    """Remove what follows the bottleneck; return its index."""
    graph, model = editor.graph, editor.model
    indices = [i for i, tensor in enumerate(graph.tensors) if tensor.name == BOTTLENECK.encode()]
    if len(indices) != 1:
        raise BadData(f"the model has no tensor named {BOTTLENECK}")
    (bottleneck,) = indices
    tensor = graph.tensors[bottleneck]
    if (tensor.type, list(tensor.shape)) != (editor.schema.TensorType.FLOAT32, [1, width]):
        raise BadData(f"the model's {BOTTLENECK} is not float32 of the width {width}")
    position = next(i for i, op in enumerate(graph.operators) if bottleneck in op.outputs)
    del graph.operators[position + 1 :]
    # `replace_final_layer` appends: what only it needs is at the end.
    used = [*graph.inputs, *(i for op in graph.operators for i in (*op.inputs, *op.outputs))]
    del graph.tensors[max(used) + 1 :]
    del model.operatorCodes[max(op.opcodeIndex for op in graph.operators) + 1 :]
    detach(editor)
    return bottleneck


def _add_dense(
    editor: ModelEditor, rows: int, dense: Dense, name: str, activation: str = "NONE"
) -> int:
    """Append a dense layer that computes in float32; large weights are stored in int8.

    The runtime makes float32 of those once, when it loads the model.
    """
    weights = dense.weights.T
    if weights.nbytes <= _MAX_EXACT_BYTES:
        floats = editor.add_constant(f"{name}/weights", np.ascontiguousarray(weights))
    else:
        scales = np.maximum(np.abs(weights).max(axis=1), _LEAST_SCALE) / _INT8_MAX
        integers = np.round(weights / scales[:, np.newaxis]).astype(np.int8)
        stored = editor.add_constant(f"{name}/weights_int8", integers, scales.tolist())
        inputs, named = [stored], f"{name}/weights"
        floats = editor.add_operator("DEQUANTIZE", inputs, named, weights.shape, version=5)
    bias, schema = editor.add_constant(f"{name}/bias", dense.bias), editor.schema
    options = schema.FullyConnectedOptionsT(getattr(schema.ActivationFunctionType, activation))
    inputs = [rows, floats, bias]
    return editor.add_operator("FULLY_CONNECTED", inputs, name, (1, len(dense.bias)), options)


def _add_familiarity(editor: ModelEditor, bottleneck: int, dense: Dense) -> int:
    schema = editor.schema
    shape, options = (1, len(dense.weights)), schema.L2NormOptionsT()
    direction = editor.add_operator("L2_NORMALIZATION", [bottleneck], "direction", shape, options)
    near = _add_dense(editor, direction, dense, "near", "RELU6")
    inputs = [near, editor.add_constant("nearest/axis", np.array([1], np.int32))]
    keep = schema.ReducerOptionsT(keepDims=True)
    nearest = editor.add_operator("REDUCE_MAX", inputs, "nearest", (1, 1), keep)
    share = editor.add_constant("familiarity/share", np.array([1 / RELU6_MAX], np.float32))
    return _multiply(editor, [nearest, share], "familiarity", 1)


def _multiply(editor: ModelEditor, factors: list[Any], name: str, width: int) -> int:
    return editor.add_operator("MUL", factors, name, (1, width), editor.schema.MulOptionsT())
