"""The runtimes run what the tables of targets say."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import BadData, WrongUse
from retrain.conversion import targets
from retrain.settings.conversion import TARGETS, ConvertSettings
from retrain.tflite.model import Operator, Tensor
from retrain.tflite.target_op_versions import LITERT_2_3, OLDEST, TFLITE_RUNTIME_2_14
from tests.helpers.deploy_fixtures import DEVICE, NO_TFLITE_RUNTIME, has_tflite_runtime, networks
from tests.helpers.quantized_fixtures import DYNAMIC, PER_TENSOR, convert

LITERT, TFLITE, EDGETPU = (targets.TARGETS[name] for name in TARGETS)
LOADS = """
import importlib, json, pickle, sys
interpreter = importlib.import_module(sys.argv[1]).Interpreter
loaded = {}
for name, flatbuffer in pickle.load(sys.stdin.buffer).items():
    try:
        loaded[name] = bool(interpreter(model_content=flatbuffer))
    except ValueError:
        loaded[name] = False
print(json.dumps(loaded))
"""


def loads(python: str | Path, module: str, flatbuffers: dict[str, bytes]) -> dict[str, bool]:
    """Ask another process, by name, which of these the runtime `module` takes."""
    process = subprocess.run(
        [python, "-c", LOADS, module],
        input=pickle.dumps(flatbuffers),
        capture_output=True,
        check=True,
    )
    loaded: dict[str, bool] = json.loads(process.stdout)
    return loaded


def old_runtime(flatbuffers: dict[str, bytes]) -> dict[str, bool]:
    if not has_tflite_runtime():
        pytest.skip(NO_TFLITE_RUNTIME)
    return loads(DEVICE, "tflite_runtime.interpreter", flatbuffers)


@cache
def every_operation() -> dict[str, bytes]:
    """Return models of no operations that name one code and version each, up to version 16."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    def model(number: int, version: int) -> bytes:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = version
        tensor, graph, whole = schema.TensorT(), schema.SubGraphT(), schema.ModelT()
        tensor.shape, tensor.name = [1], b"x"
        graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
        whole.version, whole.operatorCodes, whole.subgraphs = 3, [code], [graph]
        whole.buffers = [schema.BufferT()]
        builder = Builder()
        builder.Finish(whole.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    codes = {
        name: number
        for name, number in vars(schema.BuiltinOperator).items()
        if isinstance(number, int) and name != "CUSTOM" and not name.startswith("_")
    }
    return {
        f"{name} {version}": model(number, version)
        for name, number in codes.items()
        for version in range(1, 17)
    }


def versions(newest: dict[str, int]) -> set[str]:
    return {
        f"{name} {version}"
        for name, latest in newest.items()
        for version in range(OLDEST.get(name, 1), latest + 1)
    }


def test_litert_has_what_its_table_says() -> None:
    if not metadata.version("ai-edge-litert").startswith("2.3."):
        pytest.skip("the table is of LiteRT 2.3")
    loaded = loads(sys.executable, "ai_edge_litert.interpreter", every_operation())
    assert {name for name, loads in loaded.items() if loads} == versions(LITERT_2_3)


def test_tflite_runtime_has_what_its_table_says() -> None:
    loaded = old_runtime(every_operation())
    assert {name for name, loads in loaded.items() if loads} == versions(TFLITE_RUNTIME_2_14)


KINDS = ("int8", "int8 in and out", "int16x8", "float16")


@pytest.mark.parametrize("kind", [*KINDS, DYNAMIC, PER_TENSOR])
def test_check_says_what_the_runtimes_say(kind: str) -> None:
    flatbuffer = {kind: convert(kind)}
    assert targets.check(flatbuffer[kind], LITERT) == []
    assert loads(sys.executable, "ai_edge_litert.interpreter", flatbuffer) == {kind: True}
    passes = targets.check(flatbuffer[kind], TFLITE) == []
    assert passes == (kind != DYNAMIC)
    assert old_runtime(flatbuffer) == {kind: passes}


def test_a_refusal_names_operation_version_what_there_is_and_the_remedy() -> None:
    (reason,) = targets.check(convert(DYNAMIC), TFLITE)
    assert reason == "FULLY_CONNECTED version 12: it has version 1 to 10"
    assert TFLITE.per_tensor_dense
    with pytest.raises(BadData, match=r"tflite-runtime 2.14 .* version 12: .* Remedy: another"):
        targets.require(convert(DYNAMIC), TFLITE)
    targets.require(convert(DYNAMIC), LITERT)


def test_only_a_fully_integer_model_of_batch_1_is_for_the_edge_tpu() -> None:
    assert targets.check(convert("int8 in and out"), EDGETPU) == []
    open_batch = targets.check(networks().uint8_to_uint8_logits, EDGETPU)
    assert len(open_batch) == 1
    assert "size is open" in open_batch[0]
    float_output = targets.check(convert("int8"), EDGETPU)
    assert "DEQUANTIZE version 2: it is not among the operations of the Edge TPU" in float_output
    with pytest.raises(BadData, match="Remedy: `recipe` int8-edgetpu, or another `target`"):
        targets.require(convert("int16x8"), EDGETPU)


def eight_bits(*shape: int, kind: str = "INT8", constant: bool = False) -> Tensor:
    return Tensor("x", kind, shape, constant, quantized=True)


PHOTO, PER_CLASS = eight_bits(1, 8, 8, 3), eight_bits(1, 5)
KERNEL, DENSE = eight_bits(4, 3, 3, 3, constant=True), eight_bits(5, 192, constant=True)
BIAS = eight_bits(4, kind="INT32", constant=True)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "more", "reason"),
    [
        ("CONV_2D", (PHOTO, KERNEL, BIAS), (PHOTO,), {"activation": "RELU6"}, None),
        ("FULLY_CONNECTED", (PHOTO, DENSE), (PER_CLASS,), {}, None),
        ("SOFTMAX", (PER_CLASS,), (PER_CLASS,), {}, None),
        ("HARD_SWISH", (PHOTO,), (PHOTO,), {}, "not among the operations"),
        ("CONV_2D", (PHOTO,), (PHOTO,), {"custom": True}, "not among the operations"),
        ("ADD", (PHOTO, replace(PHOTO, type="INT16")), (PHOTO,), {}, "INT16"),
        ("ADD", (PHOTO, replace(PHOTO, quantized=False)), (PHOTO,), {}, "must be quantized"),
        ("CONV_2D", (PHOTO, KERNEL, replace(BIAS, type="INT64")), (PHOTO,), {}, "INT64"),
        ("CONV_2D", (PHOTO, eight_bits(1, 3, 3, 3)), (PHOTO,), {}, "weights must be constant"),
        ("RELU", (eight_bits(-1, 8, 8, 3),), (PHOTO,), {}, "size is open"),
        ("RELU", (eight_bits(2, 8, 8, 3),), (PHOTO,), {}, "the batch must be 1"),
        ("AVERAGE_POOL_2D", (PHOTO,), (PHOTO,), {"activation": "RELU"}, "RELU is fused"),
        ("FULLY_CONNECTED", (PHOTO, DENSE), (eight_bits(8, 5),), {}, "one dimension"),
        ("SOFTMAX", (PER_CLASS,), (eight_bits(1, 16_001),), {}, "at most 16,000"),
    ],
)
def test_each_constraint_of_the_edge_tpu_is_named(
    name: str,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    more: dict[str, Any],
    reason: str | None,
) -> None:
    reasons = list(EDGETPU.reasons(Operator(name, 1, inputs, outputs, **more)))
    assert len(reasons) == (reason is not None)
    assert reason is None or reason in reasons[0]


@pytest.mark.parametrize("target", [LITERT, TFLITE])
def test_a_runtime_refuses_what_it_has_not(target: targets.Target) -> None:
    custom = Operator("FlexErf", 1, (), (), custom=True)
    for operator in (custom, Operator("STABLEHLO_SORT", 1, (), ()), Operator("ADD", 99, (), ())):
        assert len(list(target.reasons(operator))) == 1
    assert "version 2 to" in next(iter(target.reasons(Operator("BROADCAST_TO", 1, (), ()))))


def test_an_unknown_target_is_answered_with_those_there_are() -> None:
    with pytest.raises(WrongUse, match=r"there are litert, tflite-runtime==2.14, edgetpu"):
        ConvertSettings(target="tflite-runtime==2.5")


def test_damaged_bytes_are_refused() -> None:
    with pytest.raises(BadData, match="damaged"):
        targets.check(networks().uint8[:2000], LITERT)
