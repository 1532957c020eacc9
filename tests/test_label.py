"""The label command, as the laptop and the device have it."""

import json
import os
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from deploy_fixtures import LABELS, draw_photos, networks, write_run

from deploy import cli
from deploy.classifier import Answer, Classifier
from retrain.cli import commands as laptop

DEVICE = cli.commands
both = pytest.mark.parametrize("group", [laptop, DEVICE], ids=["retrain", "deploy"])


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("retrained"))


@pytest.fixture(scope="module")
def model(retrained: Path) -> Path:
    return retrained / "model.tflite"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return draw_photos(tmp_path_factory.mktemp("photos"))


def label(group: click.Group, *arguments: object) -> Result:
    return CliRunner().invoke(group, ["label", *map(str, arguments)])


def assert_failed(result: Result, code: int, *words: str) -> None:
    """Check the exit code, and that the last line is an error with these words."""
    assert result.exit_code == code, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert [word for word in words if word not in last] == []


def best_labels(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [line["labels"][0] for line in lines]


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


@both
def test_a_threshold_leaves_out_what_is_less_probable(
    group: click.Group, model: Path, drawn: dict[str, Path]
) -> None:
    result = label(group, drawn["red"], "--model", model, "--threshold", 0.5, "--json")
    assert json.loads(result.stdout)["labels"] == ["red"]
    result = label(group, drawn["red"], "--model", model, "--threshold", 1)
    assert result.stdout == f"{drawn['red']}\n  no label reaches 100.0%\n"


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
    retrained: Path, drawn: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retrained.name.startswith("retrained")
    monkeypatch.chdir(retrained.parent)
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
    ["blue\ngrün, hell\nred\ngrey\n".encode(), b"red\n", b"", "red\ngrün".encode("latin-1")],
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


def test_option_names_may_have_underscores(retrained: Path, drawn: dict[str, Path]) -> None:
    graph = retrained / "output_graph.pb"
    options = ("--graph", graph, "--output_layer", "final_result", "--json")
    assert best_labels(label(laptop, drawn["red"], *options)) == ["red"]


# By the frozen graph


@pytest.mark.parametrize("layer", [(), ("--output-layer", "final_result")])
def test_the_graph_gives_the_same_best_labels(
    retrained: Path, drawn: dict[str, Path], layer: tuple[str, ...]
) -> None:
    graph = retrained / "output_graph.pb"
    result = label(laptop, *drawn.values(), "--graph", graph, *layer, "--json")
    assert best_labels(result) == list(drawn)
    by_model = label(laptop, *drawn.values(), "--model", retrained / "float.tflite", "--json")
    for line, expected in zip(
        result.stdout.splitlines(), by_model.stdout.splitlines(), strict=True
    ):
        found, wanted = json.loads(line), json.loads(expected)
        assert found["labels"] == wanted["labels"]
        assert found["scores"] == pytest.approx(wanted["scores"], abs=1e-5)


def test_top_and_text_are_the_same_by_the_graph(retrained: Path, drawn: dict[str, Path]) -> None:
    graph = retrained / "output_graph.pb"
    result = label(laptop, drawn["red"], "--graph", graph, "--top", 1)
    assert [line[10:] for line in result.stdout.splitlines()[1:]] == ["red"]


def test_the_output_layer_is_the_one_that_is_read(retrained: Path, drawn: dict[str, Path]) -> None:
    graph = retrained / "output_graph.pb"
    result = label(laptop, drawn["red"], "--graph", graph, "--output-layer", "logits", "--json")
    shown = json.loads(result.stdout)
    assert shown["labels"][0] == "red"
    assert shown["scores"][0] > 1.5


def test_an_output_layer_that_is_not_there_is_named(
    retrained: Path, drawn: dict[str, Path]
) -> None:
    graph = retrained / "output_graph.pb"
    result = label(laptop, drawn["red"], "--graph", graph, "--output-layer", "softmax")
    assert_failed(result, 3, "no operation named softmax")


def test_an_output_layer_without_a_graph_is_wrong_use(model: Path, drawn: dict[str, Path]) -> None:
    result = label(laptop, drawn["red"], "--model", model, "--output-layer", "final_result")
    assert_failed(result, 2, "--output-layer", "--graph")


def test_a_graph_that_its_contract_does_not_tell_of_is_refused(
    retrained: Path, drawn: dict[str, Path], tmp_path: Path
) -> None:
    graph = tmp_path / "output_graph.pb"
    graph.write_bytes(networks().graph + b"\x12\0")
    (tmp_path / "contract.json").write_bytes((retrained / "contract.json").read_bytes())
    result = label(laptop, drawn["red"], "--graph", graph)
    assert_failed(result, 3, str(graph), str(tmp_path / "contract.json"), "train again")


@pytest.mark.parametrize("missing", ["output_graph.pb", "contract.json"])
def test_a_graph_without_its_contract_or_itself_names_the_file(
    tmp_path: Path, drawn: dict[str, Path], missing: str
) -> None:
    write_run(tmp_path)
    (tmp_path / missing).unlink()
    result = label(laptop, drawn["red"], "--graph", tmp_path / "output_graph.pb")
    assert_failed(result, 3, str(tmp_path / missing), "`retrain train`")
