"""Quantize a model to int8, but for some layers that stay in float32: the first one always."""

from copy import copy
from typing import Any

from deploy.contract import InputSpec
from deploy.errors import WrongUse
from retrain.settings.conversion import Quantization
from retrain.tf_graph import tensorflow
from retrain.tflite.model import WITH_WEIGHTS, operators, read_model


def quantize_partly(converter: Any, quantization: Quantization, spec: InputSpec) -> bytes:
    """Return the int8 flatbuffer of `converter`, with the layers of `float_layers` in float32.

    Raises WrongUse for a name in `keep_float` that no layer has, and for a uint8 output if the
    output layer stays in float32.
    """
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.util import modify_model_io_type

    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    layers = {layer.outputs[0].name for layer in operators(calibrated)}
    missing = set(quantization.keep_float) - layers
    if missing:
        raise WrongUse(f"`keep_float`: no layer {', '.join(sorted(missing))}: see `explain`")
    quantized = mlir_quantize(
        calibrated,
        denylisted_nodes=sorted(float_layers(calibrated, quantization)),
        disable_per_channel_for_dense_layers=quantization.per_tensor_dense,
    )
    if quantization.output == "uint8" and operators(quantized)[-1].name != "DEQUANTIZE":
        raise WrongUse(
            "`output_type` uint8: the output layer is in float32, by `keep_float` or as the first "
            "layer with weights. Remedy: `output_type` float32"
        )
    types = (tensorflow().float32, converter.inference_output_type)
    flatbuffer = bytes(modify_model_io_type(quantized, *types))
    return _add_uint8_input(flatbuffer, spec) if quantization.record.has_uint8_input else flatbuffer


def float_layers(calibrated: bytes, quantization: Quantization) -> set[str]:
    """Return the names of the layers of the float model `calibrated` that stay in float32.

    These are the first layers with weights, the layers before them, those of `keep_float`, and the
    layers that read any of these: an int8 layer would round its input.
    """
    layers = operators(calibrated)
    names = set(quantization.keep_float)
    from_input = {tensor.name for tensor in read_model(calibrated).subgraphs[0].inputs}
    for layer in layers:
        if from_input.intersection(tensor.name for tensor in layer.inputs):
            names.add(layer.outputs[0].name)
            if layer.name not in WITH_WEIGHTS:
                from_input.update(tensor.name for tensor in layer.outputs)
    readers = {
        layer.outputs[0].name
        for layer in layers
        if names.intersection(tensor.name for tensor in layer.inputs)
    }
    return names | readers


def _add_uint8_input(flatbuffer: bytes, spec: InputSpec) -> bytes:
    """Return the model with a uint8 input, a pixel its own byte, instead of a float32 input.

    A DEQUANTIZE operation before the first layer normalises the pixels.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(flatbuffer))
    (graph,) = model.subgraphs
    (float_input,) = graph.inputs
    uint8_tensor = copy(graph.tensors[float_input])
    uint8_tensor.type = schema.TensorType.UINT8
    uint8_tensor.quantization = schema.QuantizationParametersT()
    uint8_tensor.quantization.scale = [1 / spec.std]
    uint8_tensor.quantization.zeroPoint = [int(spec.mean)]
    graph.tensors[float_input].name += b"/normalised"
    graph.tensors.append(uint8_tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [float_input]
    graph.operators.insert(0, operator)
    graph.inputs = operator.inputs
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
