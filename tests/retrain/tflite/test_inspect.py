"""List all of a .tflite file, ours or another tool's; refuse damaged ones of ours."""

import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from mediapipe.tasks.metadata import metadata_schema_py_generated as reference
from PIL import Image

from deploy import model_file
from deploy.classifier import Classifier
from deploy.contract import write_labels
from deploy.errors import BadData
from deploy.goldens import Golden, digest
from deploy.image import open_image, to_pixels
from deploy.model_file import ModelFile
from retrain.settings.conversion import About
from retrain.tflite.inspection import inspect
from retrain.tflite.metadata import attach, describe
from tests.helpers.deploy_fixtures import CONTRACT, LABELS, encoded, networks
from tests.helpers.runs import Invoke


@pytest.fixture(scope="module")
def ours() -> bytes:
    """Return the tiny network as `retrain convert` packs it, with one golden."""
    png = encoded(Image.new("RGB", (64, 64), (200, 60, 50)), "PNG")
    image = open_image(png)
    scores = Classifier(ModelFile(networks().uint8, CONTRACT)).scores(image)
    pixels = digest(to_pixels(image, CONTRACT.input))
    golden = Golden(png, pixels, "red", tuple(map(float, scores)))
    flatbuffer = attach(networks().uint8, describe(CONTRACT, About("N", "A\nB", "L"), 1))
    return model_file.pack(flatbuffer, CONTRACT, [golden], 0.1)


@pytest.fixture(scope="module")
def theirs() -> bytes:
    """Return the tiny network written by MediaPipe's and TensorFlow's classes, labels behind it."""
    from tensorflow.lite.python import schema_py_generated as schema

    labels = reference.AssociatedFileT()
    labels.name, labels.type = "labels.txt", reference.AssociatedFileType.TENSOR_AXIS_LABELS
    options = reference.NormalizationOptionsT()
    options.mean, options.std = [128.0], [128.0]
    unit = reference.ProcessUnitT()
    unit.optionsType, unit.options = reference.ProcessUnitOptions.NormalizationOptions, options
    image, scores = reference.TensorMetadataT(), reference.TensorMetadataT()
    image.processUnits, scores.associatedFiles = [unit], [labels]
    graph = reference.SubGraphMetadataT()
    graph.inputTensorMetadata, graph.outputTensorMetadata = [image], [scores]
    values = reference.ModelMetadataT()
    values.name, values.subgraphMetadata = "theirs", [graph]
    builder = flatbuffers.Builder()
    builder.Finish(values.Pack(builder), file_identifier=b"M001")
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(builder.Output(), np.uint8)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(networks().float32))
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    stream = io.BytesIO(builder.Output())
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.txt", write_labels(LABELS))
    return stream.getvalue()


def test_all_of_a_file_of_ours_is_listed(ours: bytes) -> None:
    report = inspect(ours)
    assert report["bytes"] == len(ours)
    assert report["model"]["bytes"] == len(model_file.unpack(ours).flatbuffer)
    (image,), (scores,) = report["model"]["inputs"], report["model"]["outputs"]
    assert (image["type"], image["shape"][1:]) == ("UINT8", [32, 32, 3])
    assert (image["scale"], image["zero_point"]) == ([1 / 128], [128])
    assert (scores["type"], scores["scale"]) == ("FLOAT32", [])
    assert {"name": "CONV_2D", "version": 3, "count": 1} in report["model"]["operators"]
    assert report["metadata"] == describe(CONTRACT, About("N", "A\nB", "L"), 1)
    assert [file["name"] for file in report["files"]] == [
        *("contract.json", "labels.txt", "goldens.json", "golden-0.png", "SHA256SUMS")
    ]
    assert report["contract"]["labels"] == list(LABELS)
    assert report["goldens"]["tolerance"] == 0.1
    assert report["goldens"]["photos"][0]["label"] == "red"
    assert report["digests"] == "each is right"


def test_all_of_a_file_of_another_tool_is_listed(theirs: bytes) -> None:
    report = inspect(theirs)
    (image,) = report["model"]["inputs"]
    assert (image["type"], image["scale"]) == ("FLOAT32", [])
    assert {"name": "CONV_2D", "version": 1, "count": 1} in report["model"]["operators"]
    (graph,) = report["metadata"]["subgraph_metadata"]
    (image_metadata,) = graph["input_tensor_metadata"]
    units = image_metadata["process_units"]
    assert units == [{"options": {"NormalizationOptions": {"mean": [128.0], "std": [128.0]}}}]
    (files,) = (item["associated_files"] for item in graph["output_tensor_metadata"])
    assert [(file["name"], file["type"]) for file in files] == [
        ("labels.txt", "TENSOR_AXIS_LABELS")
    ]
    assert report["metadata"]["name"] == "theirs"
    assert report["files"] == [{"name": "labels.txt", "bytes": len(write_labels(LABELS).encode())}]
    assert report["contract"] is report["goldens"] is report["digests"] is None


def test_a_bare_flatbuffer_is_listed_too() -> None:
    report = inspect(networks().float32)
    assert report["model"]["bytes"] == report["bytes"] == len(networks().float32)
    assert report["metadata"] is None
    assert report["files"] == []


def test_the_text_names_everything(ours: bytes, invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(ours)
    result = invoke("inspect", path)
    assert result.exit_code == 0, result.output
    for line in (
        "  author: A\\nB",
        "  operators: name CONV_2D; version 3; count 1",
        "          NormalizationOptions: mean 128.0; std 128.0",
        "  labels: red, grün, hell, blue, grey",
        "files: name labels.txt; bytes 26",
        "          FeatureProperties:",
        "digests: each is right",
    ):
        assert line in result.stdout
    assert "None" not in result.stdout


def test_json_is_the_whole_report(theirs: bytes, invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(theirs)
    result = invoke("inspect", path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"schema": 1, **inspect(theirs)}


def cut(content: bytes) -> bytes:
    return content[:-30]


def no_zip(content: bytes) -> bytes:
    return model_file.unpack(content).flatbuffer


def other_label(content: bytes) -> bytes:
    assert content.count(b"red\ngr") == 1
    return content.replace(b"red\ngr", b"rod\ngr")


def weight(content: bytes) -> bytes:
    at = len(model_file.unpack(content).flatbuffer) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "damaged: contract.json, golden-0.png, goldens.json, labels.txt should be in it"),
        (no_zip, "damaged: contract.json, golden-0.png, goldens.json, labels.txt should be in"),
        (other_label, "damaged: labels.txt cannot be read"),
        (weight, "damaged (model): copy it again"),
        (lambda _: b"", "not a .tflite model"),
        (lambda _: b"GIF89a" + bytes(100), "not a .tflite model"),
    ],
)
def test_a_damaged_file_is_an_error_in_words(
    ours: bytes, damage: Callable[[bytes], bytes], words: str, invoke: Invoke, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(damage(ours))
    result = invoke("inspect", path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"Error: {path}: {words}")


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_every_mutation_is_read_or_refused(whose: str, request: pytest.FixtureRequest) -> None:
    whole: bytes = request.getfixturevalue(whose)
    expected = inspect(whole)
    chance = random.Random(0)  # noqa: S311
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 8])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        try:
            report: Any = inspect(bytes(damaged))
        except BadData:
            refused += 1
        else:
            if whose == "ours":
                assert {**report, "sha256": 0} == {**expected, "sha256": 0}
    assert refused > (300 if whose == "ours" else 50)


def test_a_missing_file_is_named(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("inspect", tmp_path / "none.tflite")
    assert result.exit_code == 3
    path = tmp_path / "none.tflite"
    assert result.stderr == (
        f"Error: cannot read {path}: No such file or directory: check the name\n"
    )


def test_no_runtime_sees_the_file(theirs: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(theirs)
    code = (
        "import sys\nsys.modules['ai_edge_litert.interpreter'] = None\n"
        "from retrain.cli import commands\n"
        f"try: commands(['inspect', {str(path)!r}])\n"
        "except SystemExit as end: print('tensorflow' in sys.modules, end.code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout.splitlines()[-1] == "False 0", result.stderr


def test_files_inside_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(networks().float32)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", "long " * 1000)
    report = inspect(path.read_bytes())
    assert report["files"] == [{"name": "notes.txt", "bytes": 5000}]
    assert report["model"]["bytes"] == len(networks().float32)


def test_labels_that_disagree_with_the_contract_are_named(ours: bytes) -> None:
    file = model_file.unpack(ours)
    swapped = replace(CONTRACT, labels=(LABELS[1], LABELS[0], *LABELS[2:]))
    content = model_file.pack(file.flatbuffer, swapped, file.goldens, file.tolerance)
    with pytest.raises(BadData, match=r"golden-0\.png is of 'red', the labels make it"):
        inspect(content)
