"""`selftest`: passes where a model computes what it computed, and fails with reasons elsewhere."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy import model_file
from deploy.classifier import Classifier
from deploy.cli import commands
from deploy.model_file import ModelFile
from tests.helpers.deploy_fixtures import CONTRACT, golden_of, networks

COLOURS = [(200, 60, 50), (60, 180, 70), (40, 60, 200)]


@pytest.fixture(scope="module")
def file() -> ModelFile:
    """Return the tiny network with three goldens."""
    classifier = Classifier(ModelFile(networks().uint8, CONTRACT))
    goldens = tuple(golden_of(classifier, colour) for colour in COLOURS)
    return replace(classifier.file, goldens=goldens, tolerance=0.1)


@pytest.fixture
def model(file: ModelFile, tmp_path: Path) -> Path:
    return write(tmp_path, file)


def write(folder: Path, file: ModelFile) -> Path:
    path = folder / "model.tflite"
    content = model_file.pack(file.flatbuffer, file.contract, file.goldens, file.tolerance)
    path.write_bytes(content)
    return path


def selftest(model: Path, *options: str) -> Result:
    return CliRunner().invoke(commands, ["selftest", str(model), *options])


def read_record(result: Result) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(result.stdout)
    assert record["schema"] == 1
    assert record["passed"] == (not record["failures"]) == (result.exit_code == 0)
    return record


def test_a_good_model_passes_and_tells_where(model: Path) -> None:
    result = selftest(model, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    record = read_record(result)
    assert (record["passed"], record["failures"], record["notes"]) == (True, [], [])
    assert record["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (record["bytes"], record["labels"]) == (model.stat().st_size, 4)
    assert record["goldens"] == {"right": 3, "total": 3, "tolerance": 0.1}
    assert record["runtime"]["name"] == "LiteRT"
    assert record["runtime"]["version"]
    assert set(record["packages"]) == {"numpy", "pillow"}
    assert all(0 < ms < 10_000 for ms in (record["load_ms"], *record["ms"].values()))
    assert set(record["ms"]) == {"decode", "preprocess", "invoke"}
    assert record["device"]["python"] == ".".join(map(str, sys.version_info[:3]))
    for name in ("board", "os", "governor", "temperature_c", "throttling", "architecture"):
        assert name in record["device"]


def test_text_says_pass_last(model: Path) -> None:
    result = selftest(model)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-1] == "PASS"
    assert "goldens      3 of 3 within 0.1" in lines
    assert "labels       4" in lines


def test_other_scores_fail_with_the_golden(file: ModelFile, tmp_path: Path) -> None:
    """The first golden has the scores of the third: its label is another then."""
    first, third = file.goldens[0], file.goldens[2]
    wrong = replace(first, scores=third.scores, label=third.label)
    model = write(tmp_path, replace(file, goldens=(wrong, *file.goldens[1:])))
    result = selftest(model)
    assert result.exit_code == 4
    assert result.stderr == f"Error: {model}: the self-test failed\n"
    assert result.stdout.splitlines()[-1].startswith("FAIL: golden-0.png: red ")
    record = read_record(selftest(model, "--json"))
    assert record["goldens"]["right"] == 2
    assert len(record["failures"]) == 1
    assert record["ms"]


def test_a_model_without_goldens_says_what_was_not_compared(
    file: ModelFile, tmp_path: Path
) -> None:
    model = write(tmp_path, replace(file, goldens=()))
    record = read_record(selftest(model, "--json"))
    assert record["passed"]
    assert record["goldens"]["total"] == 0
    assert "no goldens in this file" in record["notes"][0]
    lines = selftest(model).stdout.splitlines()
    assert lines[-1] == "PASS, but no score was compared"
    assert lines[-2] == f"note: {record['notes'][0]}"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (Path.unlink, "No such file or directory"),
        (cut, "damaged, or not made by"),
        (flip, "damaged (model): copy it again"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ],
)
def test_a_bad_file_is_a_failure_with_its_reason(
    model: Path, harm: Callable[[Path], object], reason: str
) -> None:
    harm(model)
    result = selftest(model, "--json")
    record = read_record(result)
    assert (result.exit_code, record["runtime"], record["goldens"]) == (4, None, None)
    assert [str(model) in line and reason in line for line in record["failures"]] == [True]
    assert record["device"]["python"]
    assert f"FAIL: {record['failures'][0]}" in selftest(model).stdout.splitlines()


def test_a_missing_runtime_is_a_failure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setitem(sys.modules, f"{module}.interpreter", None)
    result = selftest(model, "--json")
    assert result.exit_code == 4
    assert read_record(result)["failures"] == [
        "no TFLite runtime: pip install 'ai-edge-litert>=2.3'"
    ]


def test_the_files_beside_a_model_are_checked(model: Path) -> None:
    assert read_record(selftest(model, "--json"))["files"] is None
    beside = model.with_name("labels ü.txt")
    beside.write_text("red\n")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (model, beside)}
    sums = model.with_name("SHA256SUMS")
    sums.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()), "utf-8")
    assert read_record(selftest(model, "--json"))["files"] == 2
    assert "files        2 as SHA256SUMS says" in selftest(model).stdout
    beside.write_text("blue\n")
    record = read_record(selftest(model, "--json"))
    assert record["files"] == 1
    assert record["failures"] == [f"{beside}: not the file that SHA256SUMS tells of: copy it again"]
    beside.unlink()
    assert read_record(selftest(model, "--json"))["failures"] == [f"{beside}: missing"]


def test_the_output_of_sha256sum_of_binary_files_is_read(model: Path) -> None:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    model.with_name("SHA256SUMS").write_text(f"{digest} *./{model.name}\n")
    record = read_record(selftest(model, "--json"))
    assert (record["files"], record["failures"]) == (1, [])
    flip(model)
    assert "not the file" in read_record(selftest(model, "--json"))["failures"][0]


def test_a_list_of_other_files_is_not_of_the_model(model: Path) -> None:
    model.with_name("SHA256SUMS").write_text(f"{'0' * 64}  raspios.iso\n")
    record = read_record(selftest(model, "--json"))
    assert (record["passed"], record["files"]) == (True, None)
    assert "no SHA256SUMS lists it" in selftest(model).stdout


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/proc/self/mem", "Input/output error"), ("/dev/zero", "a device, not a file")],
)
def test_what_fails_while_it_is_read_is_named(path: str, reason: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"no {path}")
    assert read_record(selftest(Path(path), "--json"))["failures"] == [f"{path}: {reason}"]
