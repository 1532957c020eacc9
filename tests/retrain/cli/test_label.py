"""The label command, as the laptop and the device have it."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy import cli
from deploy.classifier import Answer, Classifier
from deploy.contract import Contract, write_labels
from retrain.cli import commands as laptop
from tests.helpers.deploy_fixtures import LABELS, write_run
from tests.helpers.label_fixtures import assert_failed, best_labels, label

DEVICE = cli.commands
both = pytest.mark.parametrize("group", [laptop, DEVICE], ids=["retrain", "deploy"])


# What it prints


@both
def test_text_lists_labels_below_their_photo(
    group: click.Group, model: Path, drawn: dict[str, Path]
) -> None:
    result = label(group, drawn["blue"], drawn["red"], "--model", model, "--top", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    expected = [
        re.escape(str(drawn["blue"])),
        r"   9\d\.\d%  blue",
        r"    [2-6]\.\d%  grey",
        re.escape(str(drawn["red"])),
        r"   9\d\.\d%  red",
        r"    [2-6]\.\d%  grey",
    ]
    for line, pattern in zip(result.stdout.splitlines(), expected, strict=True):
        assert re.fullmatch(pattern, line)


@both
def test_json_is_one_object_a_photo(
    group: click.Group, model: Path, drawn: dict[str, Path]
) -> None:
    result = label(group, *drawn.values(), "--model", model, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    for line, (best, photo) in zip(result.stdout.splitlines(), drawn.items(), strict=True):
        shown = json.loads(line)
        assert (shown["schema"], shown["path"]) == (1, str(photo))
        assert shown["unknown"] is False
        scores = shown["scores"]
        assert shown["labels"][0] == best
        assert sorted(shown["labels"]) == sorted(LABELS)
        assert set(shown) == {"schema", "path", "labels", "scores", "unknown", "ms"}
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=0.02)
        assert list(shown["ms"]) == ["decode", "preprocess", "invoke"]
        assert all(0 < ms < 1000 for ms in shown["ms"].values())


@pytest.mark.parametrize(("top", "shown"), [(1, 1), (3, 3), (99, 4)])
def test_top_limits_the_labels(model: Path, drawn: dict[str, Path], top: int, shown: int) -> None:
    result = label(DEVICE, drawn["red"], "--model", model, "--top", top, "--json")
    assert len(json.loads(result.stdout)["labels"]) == shown


@pytest.mark.parametrize("command", [["label"], ["watch", "--source"]], ids=["label", "watch"])
@pytest.mark.parametrize("reason", ["another graph", "did not pass"])
def test_a_model_that_is_not_the_runs_last_one_is_used_with_a_warning(
    tmp_path: Path, drawn: dict[str, Path], command: list[str], reason: str
) -> None:
    run = write_run(tmp_path)
    if reason == "another graph":  # trained again, and not converted
        contract = Contract.from_json((run / "contract.json").read_bytes())
        newer = replace(contract, graph_sha256="0" * 64)
        (run / "contract.json").write_text(newer.to_json(), "utf-8")
    else:
        (run / "model.rejected.tflite").write_bytes((run / "model.tflite").read_bytes())
    for group, name, has_warning in (
        (laptop, "model", True),
        (laptop, "float", False),
        (DEVICE, "model", False),
    ):
        model = run / f"{name}.tflite"
        words = [*command, str(drawn["red"]), "--model", str(model)]
        result = CliRunner().invoke(group, words)
        assert result.exit_code == 0, result.output
        assert "  red" in result.stdout
        assert ("Warning: " in result.stderr) == has_warning
        if has_warning:
            assert reason in result.stderr
            assert f"run `retrain convert --output-dir {run}` again" in result.stderr
            assert f"those of {model}" in result.stderr


@pytest.mark.parametrize("command", [["label"], ["watch", "--source"]], ids=["label", "watch"])
def test_a_damaged_model_is_an_error_without_a_warning(
    tmp_path: Path, drawn: dict[str, Path], command: list[str]
) -> None:
    run = write_run(tmp_path)
    model = run / "model.tflite"
    model.write_bytes(b"no model")
    words = [*command, str(drawn["red"]), "--model", str(model)]
    result = CliRunner().invoke(laptop, words)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: {model}: ")


@both
def test_a_threshold_leaves_out_what_is_less_probable(
    group: click.Group, model: Path, drawn: dict[str, Path]
) -> None:
    result = label(group, drawn["red"], "--model", model, "--threshold", 0.5, "--json")
    assert json.loads(result.stdout)["labels"] == ["red"]
    result = label(group, drawn["red"], "--model", model, "--threshold", 1)
    assert result.stdout == f"{drawn['red']}\n  no label reaches 100%\n"


@both
def test_a_bad_photo_is_named_and_the_others_go_on(
    group: click.Group, model: Path, drawn: dict[str, Path], tmp_path: Path
) -> None:
    notes, gone = tmp_path / "notes.jpg", tmp_path / "gone.jpg"
    notes.write_text("no photo")
    named = (drawn["red"], notes, gone, drawn["blue"])
    result = label(group, *named, "--model", model, "--json")
    assert_failed(result, 3, "2 of 4 photos could not be classified")
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["path"] for line in shown] == [str(drawn["red"]), str(drawn["blue"])]
    errors = result.stderr.splitlines()[:-1]
    assert errors[0].startswith(f"Error: {notes}: not a photo: its content is none of")
    assert errors[1:] == [
        f"Error: {gone}: No such file or directory",
    ]


def test_a_photo_that_memory_is_too_little_for_does_not_stop_the_others(
    model: Path, drawn: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Classifier.answer

    def short(self: Classifier, photo: str, top: int) -> Answer:
        if photo == str(drawn["red"]):
            raise MemoryError
        return answer(self, photo, top)

    monkeypatch.setattr(Classifier, "answer", short)
    result = label(DEVICE, drawn["red"], drawn["blue"], "--model", model)
    assert_failed(result, 3, "1 of 2 photos could not be classified")
    assert result.stderr.startswith(f"Error: {drawn['red']}: out of memory\n")
    assert "blue" in result.stdout


@both
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_photos_name_may_be_any_bytes(
    group: click.Group, model: Path, drawn: dict[str, Path], tmp_path: Path, form: list[str]
) -> None:
    photo = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    try:
        photo.write_bytes(drawn["red"].read_bytes())
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    result = label(group, photo, "--model", model, *form)
    assert result.exit_code == 0, result.stderr
    assert "caf" in result.stdout
    assert "red" in result.stdout


# Which model, which labels


def test_the_model_is_looked_for_where_convert_leaves_it(
    retrained: Path, drawn: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("retrained").symlink_to(retrained)
    assert best_labels(label(laptop, drawn["red"], "--json")) == ["red"]


@both
def test_a_missing_model_names_its_path_and_its_maker(
    group: click.Group, drawn: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "none.tflite"
    result = label(group, drawn["red"], "--model", path)
    assert result.stdout == ""
    assert_failed(result, 3, str(path), "No such file", "`retrain convert`")


@both
def test_a_damaged_model_is_refused(
    group: click.Group, model: Path, drawn: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "damaged.tflite"
    path.write_bytes(b"\0" * 100 + model.read_bytes()[100:])
    assert_failed(label(group, drawn["red"], "--model", path), 3, str(path), "damaged", "again")


@both
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_labels_file_that_agrees_is_accepted(
    group: click.Group, model: Path, drawn: dict[str, Path], tmp_path: Path, end: str
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("".join(name + end for name in LABELS).encode())
    result = label(group, drawn["grey"], "--model", model, "--labels", path, "--json")
    assert best_labels(result) == ["grey"]


@pytest.mark.parametrize(
    ("group", "form", "name"),
    [
        (DEVICE, "--model", "model.tflite"),
        (laptop, "--model", "model.tflite"),
        (laptop, "--graph", "output_graph.pb"),
    ],
)
@pytest.mark.parametrize(
    "content",
    ["blue\ngrün, hell\nred\ngrey\n".encode(), b"red\n", b""],
)
def test_a_labels_file_that_disagrees_is_refused(
    group: click.Group,
    retrained: Path,
    drawn: dict[str, Path],
    tmp_path: Path,
    form: str,
    name: str,
    content: bytes,
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    result = label(group, drawn["red"], form, retrained / name, "--labels", path)
    assert result.stdout == ""
    assert_failed(result, 3, f"{path}: not the labels ", name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\ufeff" + write_labels(LABELS), None),
        (("\ufeff" + write_labels(LABELS)).replace("\n", "\r\n"), None),
        (write_labels(LABELS).encode("utf-16"), "UTF-16 text"),
        (write_labels(LABELS).encode("utf-16-be"), "UTF-16 text"),
        (write_labels(LABELS).encode("latin-1"), "not UTF-8 text: save it as UTF-8"),
        (
            write_labels(LABELS).replace("blue", "bl\u200bue"),
            r"line 3 is 'bl\u200bue', there it is",
        ),
        (write_labels(LABELS).replace("blue", "\x1b[2Jblue"), r"line 3 is '\x1b[2Jblue', there it"),
        (write_labels(LABELS[:3]), "line 4 is missing, there it is 'grey'"),
        (write_labels((*LABELS, "x")), "line 5 is 'x', there it is missing"),
        (write_labels(LABELS).replace("blue", "blue "), "line 3 is 'blue ', there it is 'blue'"),
    ],
)
def test_a_labels_file_of_any_editor_is_read_or_its_flaw_is_named(
    model: Path, drawn: dict[str, Path], tmp_path: Path, content: str | bytes, words: str | None
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    result = label(DEVICE, drawn["red"], "--model", model, "--labels", path)
    if words:
        assert_failed(result, 3, f"{path}: ", words)
    else:
        assert (result.exit_code, result.stderr) == (0, "")


@both
def test_a_missing_labels_file_is_named(
    group: click.Group, model: Path, drawn: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "labels.txt"
    result = label(group, drawn["red"], "--model", model, "--labels", path)
    assert_failed(result, 3, str(path), "No such file")


# How it is asked


@both
def test_no_photo_is_wrong_use(group: click.Group, model: Path) -> None:
    assert_failed(label(group, "--model", model), 2, "no photo named")


@both
@pytest.mark.parametrize("option", ["--top=0", "--threads=0", "--threshold=1.5", "--colour=mauve"])
def test_a_wrong_option_is_wrong_use(
    group: click.Group, model: Path, drawn: dict[str, Path], option: str
) -> None:
    result = label(group, drawn["red"], "--model", model, option)
    assert_failed(result, 2, option.split("=")[0])


@both
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_help(group: click.Group, option: str) -> None:
    result = label(group, option)
    assert result.exit_code == 0
    assert "Print the best labels of each PHOTO" in result.stdout


def test_image_is_another_way_to_name_a_photo(model: Path, drawn: dict[str, Path]) -> None:
    alone = label(laptop, "--image", drawn["red"], "--model", model, "--json")
    assert best_labels(alone) == ["red"]
    besides = label(laptop, drawn["blue"], "--image", drawn["red"], "--model", model, "--json")
    assert best_labels(besides) == ["blue", "red"]


def test_two_numbers_of_labels_are_wrong_use(model: Path, drawn: dict[str, Path]) -> None:
    options = ("--model", model, "--top", 1, "--num-top-predictions", 2)
    assert_failed(label(laptop, drawn["red"], *options), 2, "--top", "--num-top-predictions")


def test_option_names_may_have_underscores(retrained: Path, drawn: dict[str, Path]) -> None:
    graph = retrained / "output_graph.pb"
    options = ("--graph", graph, "--output_layer", "final_result", "--json")
    assert best_labels(label(laptop, drawn["red"], *options)) == ["red"]
