"""List problems of other tools' files, and descriptions that models hold."""

import io
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema

from deploy import model_file
from retrain.settings.conversion import About
from retrain.tflite.inspection import inspect
from retrain.tflite.metadata import attach, describe
from tests.helpers.deploy_fixtures import CONTRACT, networks
from tests.helpers.runs import Invoke


def objects(flatbuffer: bytes) -> Any:
    """Return the model in objects, which may be changed."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer))


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def zipped(flatbuffer: bytes, **files: str) -> bytes:
    """Return the model with these files behind it; in a name, _ is for a dot."""
    stream = io.BytesIO(flatbuffer)
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return stream.getvalue()


def test_the_description_of_a_model_is_listed(invoke: Invoke, tmp_path: Path) -> None:
    model = objects(networks().float32)
    (graph,) = model.subgraphs
    model.description = "Tells colours"
    ends = [schema.TensorMapT(), schema.TensorMapT()]
    for end, name, place in zip(
        ends, ("image", "scores"), (graph.inputs[0], graph.outputs[0]), strict=True
    ):
        end.name, end.tensorIndex = name, place
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.inputs, signature.outputs = "classify", ends[:1], ends[1:]
    model.signatureDefs = [signature]
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data, entry.name = list(b"1.5.0"), "min_runtime_version"
    entry.buffer = len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [entry]
    path = tmp_path / "model.tflite"
    path.write_bytes(packed(model))
    report = inspect(path.read_bytes())
    assert report["problems"] == []
    about = report["model"]
    assert (about["description"], about["subgraphs"]) == ("Tells colours", 1)
    assert about["metadata"] == [{"name": "min_runtime_version", "bytes": 5}]
    names = [end["name"] for end in (*about["inputs"], *about["outputs"])]
    assert about["signatures"] == [
        {
            "name": "classify",
            "subgraph": 0,
            "inputs": {"image": names[0]},
            "outputs": {"scores": names[1]},
        }
    ]
    text = invoke("inspect", path).stdout
    for words in ("description: Tells colours", "classify", "min_runtime_version", "subgraphs: 1"):
        assert words in text


def later_operation() -> bytes:
    model = objects(networks().float32)
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.SOFTMAX:
            code.builtinCode, code.deprecatedBuiltinCode = 999, 127
    return packed(model)


def of_metadata(identifier: bytes) -> bytes:
    flatbuffer = attach(networks().float32, {"name": "theirs"})
    assert flatbuffer.count(b"M001") == 1
    return flatbuffer.replace(b"M001", identifier)


def damaged_zip() -> bytes:
    content = zipped(networks().float32, notes_txt="a note")
    at = content.index(b"a note")
    return content[:at] + b"b" + content[at + 1 :]


def listing(*files: dict[str, str]) -> bytes:
    return attach(networks().float32, {"name": "theirs", "associated_files": list(files)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: listing({"name": "labels.txt"}), "files that are not there: labels.txt"),
        (lambda: listing({"description": "?"}), "its metadata lists a file without a name"),
        (lambda: zipped(networks().float32, contract_json="{}"), "contract.json in it, but not of"),
        (
            lambda: zipped(networks().float32, contract_json="{}", SHA256SUMS="0  contract.json\n"),
            "SHA256SUMS, contract.json in it, but not of this project: not read",
        ),
        (later_operation, "of a later TFLite than the one here: UNKNOWN 999"),
        (lambda: of_metadata(b"M002"), "its metadata is not TFLite metadata of version M001"),
        (damaged_zip, "damaged: notes.txt cannot be read"),
    ],
)
def test_a_problem_of_another_tools_file_is_listed_beside_the_rest(
    content: Any, words: str, invoke: Invoke, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content())
    (problem,) = inspect(path.read_bytes())["problems"]
    assert words in problem
    result = invoke("inspect", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"problem: {problem}"
    assert "name CONV_2D; version 1; count 1" in result.stdout


def test_a_file_of_ours_has_no_problems_and_none_without_its_digests(
    invoke: Invoke, tmp_path: Path
) -> None:
    flatbuffer = attach(networks().uint8, describe(CONTRACT, About(), 0))
    whole = model_file.pack(flatbuffer, CONTRACT)
    assert inspect(whole)["problems"] == []
    path = tmp_path / "model.tflite"
    path.write_bytes(zipped(flatbuffer, contract_json=CONTRACT.to_json(), labels_txt="red\n"))
    result = invoke("inspect", path)
    assert result.exit_code == 3
    assert "damaged: its files should be in it: copy it again" in result.stderr
