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
from PIL import Image

from deploy import goldens, model_file
from deploy.classifier import Classifier
from deploy.cli import commands
from deploy.goldens import Golden
from deploy.image import open_image, to_pixels
from deploy.model_file import ModelFile
from tests.helpers.deploy_fixtures import CONTRACT, LABELS, SPEC, encoded, networks

COLOURS = [(200, 60, 50), (60, 180, 70), (40, 60, 200)]


@pytest.fixture(scope="module")
def file() -> ModelFile:
    """Return the tiny network with three goldens."""
    classifier = Classifier(ModelFile(networks().uint8, CONTRACT))
    made = []
    for colour in COLOURS:
        png = encoded(Image.new("RGB", (64, 64), colour), "PNG")
        image = open_image(png, SPEC)
        scores = classifier.scores(image)
        digest = goldens.digest(to_pixels(image, SPEC))
        made.append(Golden(png, digest, LABELS[scores.argmax()], tuple(map(float, scores))))
    return replace(classifier.file, goldens=tuple(made), tolerance=0.1)


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


def record(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["schema"] == 1
    assert told["passed"] == (not told["failures"]) == (result.exit_code == 0)
    return told


def test_a_good_model_passes_and_tells_where(model: Path) -> None:
    result = selftest(model, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = record(result)
    assert (told["passed"], told["failures"], told["notes"]) == (True, [], [])
    assert told["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (told["bytes"], told["labels"]) == (model.stat().st_size, 4)
    assert told["goldens"] == {"right": 3, "total": 3, "tolerance": 0.1}
    assert told["runtime"]["name"] == "LiteRT"
    assert told["runtime"]["version"]
    assert set(told["packages"]) == {"numpy", "pillow"}
    assert all(0 < ms < 10_000 for ms in (told["load_ms"], *told["ms"].values()))
    assert set(told["ms"]) == {"decode", "preprocess", "invoke"}
    assert told["device"]["python"] == ".".join(map(str, sys.version_info[:3]))
    for name in ("board", "os", "governor", "temperature_c", "throttling", "architecture"):
        assert name in told["device"]


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
    told = record(selftest(model, "--json"))
    assert told["goldens"]["right"] == 2
    assert len(told["failures"]) == 1
    assert told["ms"]


def test_a_model_without_goldens_says_what_was_not_compared(
    file: ModelFile, tmp_path: Path
) -> None:
    model = write(tmp_path, replace(file, goldens=()))
    told = record(selftest(model, "--json"))
    assert told["passed"]
    assert told["goldens"]["total"] == 0
    assert "no goldens in this file" in told["notes"][0]
    lines = selftest(model).stdout.splitlines()
    assert lines[-1] == "PASS, but no score was compared"
    assert lines[-2] == f"note: {told['notes'][0]}"


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
    told = record(result)
    assert (result.exit_code, told["runtime"], told["goldens"]) == (4, None, None)
    assert [str(model) in each and reason in each for each in told["failures"]] == [True]
    assert told["device"]["python"]
    assert f"FAIL: {told['failures'][0]}" in selftest(model).stdout.splitlines()


def test_a_missing_runtime_is_a_failure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setitem(sys.modules, f"{module}.interpreter", None)
    result = selftest(model, "--json")
    assert result.exit_code == 4
    assert record(result)["failures"] == ["no TFLite runtime: pip install 'ai-edge-litert>=2.3'"]


def test_the_files_beside_a_model_are_checked(model: Path) -> None:
    assert record(selftest(model, "--json"))["files"] is None
    beside = model.with_name("labels ü.txt")
    beside.write_text("red\n")
    digests = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in (model, beside)}
    sums = model.with_name("SHA256SUMS")
    sums.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()), "utf-8")
    assert record(selftest(model, "--json"))["files"] == 2
    assert "files        2 as SHA256SUMS says" in selftest(model).stdout
    beside.write_text("blue\n")
    told = record(selftest(model, "--json"))
    assert told["files"] == 1
    assert told["failures"] == [f"{beside}: not the file that SHA256SUMS tells of: copy it again"]
    beside.unlink()
    assert record(selftest(model, "--json"))["failures"] == [f"{beside}: missing"]
