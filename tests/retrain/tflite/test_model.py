"""Read a flatbuffer's operators; refuse damaged bytes."""

import numpy as np
import pytest

from deploy.errors import BadData
from retrain.conversion import targets
from retrain.tflite.model import Operator, Tensor, operators
from tests.helpers.deploy_fixtures import networks


def test_the_operations_of_a_float_network() -> None:
    convolution, mean, dense, softmax = operators(networks().float32)
    assert (convolution.name, convolution.version, convolution.custom) == ("CONV_2D", 1, False)
    assert convolution.activation == "RELU6"
    image, kernel, bias = convolution.inputs
    assert image == Tensor("input", "FLOAT32", (-1, 32, 32, 3), constant=False, quantized=False)
    assert (kernel.shape, kernel.constant) == ((6, 3, 3, 3), True)
    assert (bias.shape, bias.constant) == ((6,), True)
    assert convolution.outputs[0] == mean.inputs[0]
    assert [operator.name for operator in (mean, dense, softmax)] == [
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    assert {operator.activation for operator in (mean, dense, softmax)} == {"NONE"}
    assert softmax.outputs[0].name == "final_result"


def test_the_operations_of_a_quantized_network() -> None:
    quantized = operators(networks().uint8)
    assert [(operator.name, operator.version) for operator in quantized] == [
        ("QUANTIZE", 1),
        ("CONV_2D", 3),
        ("MEAN", 2),
        ("FULLY_CONNECTED", 4),
        ("SOFTMAX", 2),
        ("DEQUANTIZE", 2),
    ]
    assert [tensor.type for tensor in quantized[1].inputs] == ["INT8", "INT8", "INT32"]
    assert all(tensor.quantized for tensor in quantized[1].inputs)
    assert quantized[-1].outputs[0].type == "FLOAT32"
    assert not quantized[-1].outputs[0].quantized


def test_bytes_behind_the_flatbuffer_are_ignored() -> None:
    assert operators(networks().uint8 + b"PK\x03\x04 a zip") == operators(networks().uint8)


def edited(name: str, number: int) -> bytes:
    """Return the float network; its first operation's code has another `number`."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(networks().float32))
    code = model.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
    code.customCode = name
    builder = Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(("number", "name"), [(32, "Mfcc"), (150, "GELU")])
def test_an_operation_is_named_by_its_code(number: int, name: str) -> None:
    first = operators(edited("Mfcc", number))[0]
    assert (first.name, first.custom) == (name, name == "Mfcc")


def test_a_code_that_the_schema_does_not_know_is_named_by_its_number_and_runs_nowhere() -> None:
    flatbuffer = edited("Mfcc", 9999)
    assert operators(flatbuffer)[0].name == "UNKNOWN 9999"
    for target in targets.TARGETS.values():
        assert any("UNKNOWN 9999" in reason for reason in targets.check(flatbuffer, target))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x00" * 64, b"\x1c\0\0\0TFL3" + b"\xff" * 64])
def test_bytes_of_no_model_are_refused(content: bytes) -> None:
    with pytest.raises(BadData, match="Remedy: convert again"):
        operators(content)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_read_or_refused(seed: int) -> None:
    random = np.random.default_rng(seed)
    content = np.frombuffer(networks().uint8, np.uint8)
    refused = 0
    for _ in range(250):
        damaged = content[: random.integers(8, content.size)] if seed == 0 else content.copy()
        if seed:
            places = random.integers(0, content.size, 4**seed)
            damaged[places] = random.integers(0, 256, places.size)
            damaged[4:8] = content[4:8]
        try:
            layers = operators(damaged.tobytes())
        except BadData:
            refused += 1
        else:
            assert all(isinstance(layer, Operator) for layer in layers)
    assert refused > 0
