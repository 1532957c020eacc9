"""int8 models that keep some layers in float32, the first one always."""

from copy import copy
from typing import Any

from deploy.contract import InputSpec
from deploy.errors import WrongUse
from retrain.settings.conversion import Quantization
from retrain.tf_graph import tensorflow
from retrain.tflite.model import WITH_WEIGHTS, operators, read_model


def partly_quantized(converter: Any, how: Quantization, spec: InputSpec) -> bytes:
    """Return the flatbuffer of `converter`'s int8 model, in float32 what `in_float` tells.

    Raises WrongUse for a layer that is not there, and for bytes out of a layer in float32.
    """
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.util import modify_model_io_type

    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    unknown = set(how.keep_float) - {each.outputs[0].name for each in operators(calibrated)}
    if unknown:
        raise WrongUse(f"--keep-float: no layer {', '.join(sorted(unknown))}: see --explain")
    quantized = mlir_quantize(
        calibrated,
        denylisted_nodes=sorted(in_float(calibrated, how)),
        disable_per_channel_for_dense_layers=how.per_tensor_dense,
    )
    if how.output == "uint8" and operators(quantized)[-1].name != "DEQUANTIZE":
        raise WrongUse(
            "--output-type uint8: the output layer is in float32, by --keep-float or as the first "
            "with weights. Remedy: --output-type float32"
        )
    types = (tensorflow().float32, converter.inference_output_type)
    return _with_bytes_in(bytes(modify_model_io_type(quantized, *types)), spec)


def in_float(calibrated: bytes, how: Quantization) -> set[str]:
    """Return the layers of the float model `calibrated` that stay in float32: see `Quantization`.

    Those are the first with weights, what stands before it, `how.keep_float`, and what reads any
    of them: an int8 layer would round what it is given.
    """
    layers = operators(calibrated)
    kept = set(how.keep_float)
    given = {tensor.name for tensor in read_model(calibrated).subgraphs[0].inputs}
    for layer in layers:
        if given.intersection(tensor.name for tensor in layer.inputs):
            kept.add(layer.outputs[0].name)
            if layer.name not in WITH_WEIGHTS:
                given.update(tensor.name for tensor in layer.outputs)
    readers = {
        layer.outputs[0].name
        for layer in layers
        if kept.intersection(tensor.name for tensor in layer.inputs)
    }
    return kept | readers


def _with_bytes_in(flatbuffer: bytes, spec: InputSpec) -> bytes:
    """Return the model, whose input is float32, with a pixel's byte as the input's byte.

    A DEQUANTIZE in front normalises it.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(flatbuffer))
    (graph,) = model.subgraphs
    (given,) = graph.inputs
    as_bytes = copy(graph.tensors[given])
    as_bytes.type = schema.TensorType.UINT8
    as_bytes.quantization = schema.QuantizationParametersT()
    as_bytes.quantization.scale = [1 / spec.std]
    as_bytes.quantization.zeroPoint = [int(spec.mean)]
    graph.tensors[given].name += b"/normalised"
    graph.tensors.append(as_bytes)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [given]
    graph.operators.insert(0, operator)
    graph.inputs = operator.inputs
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
