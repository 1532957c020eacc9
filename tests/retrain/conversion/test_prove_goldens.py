"""Another Python runs the goldens; each way to fail has its own message."""

import os
import stat
import sys
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import goldens, model_file
from deploy.classifier import Classifier
from deploy.contract import Contract
from deploy.errors import GateFailed, RetrainError, WrongUse
from deploy.goldens import Golden
from deploy.image import open_image, to_pixels
from retrain.conversion import targets
from retrain.conversion.prove_goldens import Proof, prove_goldens
from retrain.frozen_graph import FrozenGraph
from retrain.quantization.quantize import quantize, span_byte_range
from retrain.settings.conversion import RECIPES, Quantization
from tests.helpers.deploy_fixtures import (
    CONTRACT,
    DEVICE,
    NO_TFLITE_RUNTIME,
    SPEC,
    encoded,
    has_tflite_runtime,
    networks,
)
from tests.helpers.quantized_fixtures import CLASSES, DYNAMIC, PER_TENSOR, convert, network

MANY = replace(CONTRACT, labels=tuple(f"class {i}" for i in range(CLASSES)))


def write_model(
    path: Path,
    flatbuffer: bytes | None = None,
    contract: Contract = CONTRACT,
    better: float = 0.0,
    tolerance: float = 0.1,
) -> Path:
    """Write a model with one golden, whose scores are `better` than what it gives here."""
    flatbuffer = flatbuffer or networks().uint8
    path.write_bytes(model_file.pack(flatbuffer, contract))
    png = encoded(Image.new("RGB", (64, 64), (200, 60, 50)), "PNG")
    image = open_image(png, SPEC)
    scores = Classifier.open(path).scores(image) + better
    digest, best = goldens.digest(to_pixels(image, SPEC)), contract.labels[scores.argmax()]
    golden = Golden(png, digest, best, tuple(map(float, scores)))
    path.write_bytes(model_file.pack(flatbuffer, contract, [golden], tolerance))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.tflite")


@pytest.fixture(params=["this Python", "the device's"])
def python(request: pytest.FixtureRequest) -> Path:
    if request.param == "this Python":
        return Path(sys.executable)
    if not DEVICE.exists():
        pytest.skip(f"no device environment at {DEVICE}: `make test` makes it")
    return DEVICE


def test_goldens_pass(python: Path, model: Path) -> None:
    proof = prove_goldens(python, model)
    assert proof.goldens == 1
    old = python == DEVICE and has_tflite_runtime()
    assert proof.runtime.split()[0] == ("tflite-runtime" if old else "LiteRT")


def test_goldens_that_fail_are_a_gate(python: Path, tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"golden-0\.png"):
        prove_goldens(python, write_model(tmp_path / "model.tflite", better=0.5))


def said_to_be(flatbuffer: bytes, version: int) -> bytes:
    """Return the model; the file says another version of all its dense layers."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer))
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = version
    builder = Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_what_a_file_says_of_its_versions_is_not_believed(tmp_path: Path) -> None:
    """A dense layer with a scale per channel is version 12; here the file says 9, as 2.14 has."""
    if not has_tflite_runtime():
        pytest.skip(NO_TFLITE_RUNTIME)
    target = targets.TARGETS["tflite-runtime==2.14"]
    honest = write_model(tmp_path / "per_tensor.tflite", convert(PER_TENSOR), MANY)
    assert prove_goldens(DEVICE, honest).goldens == 1
    newer = write_model(tmp_path / "per_channel.tflite", convert(DYNAMIC), MANY)
    with pytest.raises(GateFailed, match="does not load this model"):
        prove_goldens(DEVICE, newer)
    lie = said_to_be(convert(DYNAMIC), 9)
    assert targets.check(lie, target) == []
    lying = write_model(tmp_path / "lie.tflite", said_to_be(convert(DYNAMIC), 9), MANY)
    assert prove_goldens(Path(sys.executable), lying).goldens == 1
    with pytest.raises(GateFailed, match=r"golden-0\.png"):
        prove_goldens(DEVICE, lying)


@pytest.mark.parametrize(
    ("recipe", "per_tensor_dense"),
    [*((recipe, False) for recipe in RECIPES), ("dynamic", True), ("int8", True)],
)
def test_each_recipe_runs_there_as_its_table_says(
    recipe: str, per_tensor_dense: bool, tmp_path: Path
) -> None:
    if not has_tflite_runtime():
        pytest.skip(NO_TFLITE_RUNTIME)
    graph = FrozenGraph(network().SerializeToString(), SPEC, "final_result")
    photos = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    how = Quantization(recipe, per_tensor_dense=per_tensor_dense)
    flatbuffer = quantize(graph, how, span_byte_range(photos))
    path = write_model(
        tmp_path / "model.tflite", flatbuffer, MANY, tolerance=RECIPES[recipe].golden_tolerance
    )
    refused = targets.check(flatbuffer, targets.TARGETS["tflite-runtime==2.14"])
    assert bool(refused) == (recipe == "dynamic" and not per_tensor_dense)
    if refused:
        with pytest.raises(GateFailed, match="does not load this model"):
            prove_goldens(DEVICE, path)
    else:
        assert prove_goldens(DEVICE, path).goldens == 1


def test_nothing_of_this_environment_is_seen(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/__main__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    assert prove_goldens(Path(sys.executable), model).goldens == 1


def test_a_damaged_model_fails(model: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model.tflite"
    damaged.write_bytes(model.read_bytes().replace(b"Conv2D", b"Conv3D"))
    with pytest.raises(GateFailed, match=r"damaged \(model\)"):
        prove_goldens(Path(sys.executable), damaged)


def test_a_missing_package_is_named(model: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    with pytest.raises(WrongUse, match=r"No module named '\w+'. Remedy: install click, numpy"):
        prove_goldens(tmp_path / "bare/bin/python", model)


@pytest.mark.parametrize(
    ("version", "then", "kind", "reason"),
    [
        ("echo 3 9", "exit 0", WrongUse, r"it is Python 3\.9; at least 3\.11 is needed"),
        ("echo hello", "exit 0", WrongUse, "not a Python that works"),
        ("echo broken >&2; exit 127", "exit 0", WrongUse, "not a Python that works: broken"),
        ("echo 3 11", "kill -SEGV $$", GateFailed, r"died at the goldens \(SIGSEGV\)"),
        ("echo 3 11", "exec sleep 60", GateFailed, "no answer in 1 s"),
        ("echo 3 11", "echo no JSON", GateFailed, "exit code 0"),
        ("echo 3 11", """echo '{"failures": []}'""", GateFailed, "exit code 0"),
        ("echo 3 11", "echo it broke >&2; exit 1", GateFailed, ": it broke$"),
        ("echo 3 11", """echo '{"failures": ["a", "b"]}'; exit 4""", GateFailed, ": a; b$"),
        ("echo 3 11", """echo '{"failures": ["no TFLite runtime"]}'""", WrongUse, "Remedy: inst"),
    ],
)
def test_a_python_that_does_not_do_it_is_told(
    version: str, then: str, kind: type[RetrainError], reason: str, model: Path, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then {version}; else {then}; fi\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(kind, match=reason) as error:
        prove_goldens(program, model, time_limit_s=1)
    assert type(error.value) is kind
    assert f"`target_python` {program}: " in str(error.value)


@pytest.mark.parametrize("name", ["missing", "a/missing", "."])
def test_what_is_no_program_is_refused(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongUse, match="no such program"):
        prove_goldens(Path(name), model)


def test_a_relative_path_and_a_name_are_found(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = '{"failures": [], "goldens": {"right": 8}, "runtime": {"name": "x", "version": "1"}}'
    program = tmp_path / "bin" / "quick"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nif [ $1 = -c ]; then echo 3 11; else echo '{record}'; fi\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert prove_goldens(Path("bin/quick"), model) == Proof(8, "x 1")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert prove_goldens(Path("quick"), model) == Proof(8, "x 1")
