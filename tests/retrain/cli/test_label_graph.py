"""The label command by the frozen graph, which only the laptop has."""

import json
from pathlib import Path

import pytest

from retrain.cli import commands as laptop
from tests.helpers.deploy_fixtures import networks, write_run
from tests.helpers.label_fixtures import assert_failed, best_labels, label


@pytest.mark.parametrize("layer", [(), ("--output-layer", "final_result")])
def test_the_graph_gives_the_same_best_labels(
    retrained: Path, drawn: dict[str, Path], layer: tuple[str, ...]
) -> None:
    graph = retrained / "output_graph.pb"
    result = label(laptop, *drawn.values(), "--graph", graph, *layer, "--json")
    assert best_labels(result) == list(drawn)
    by_model = label(laptop, *drawn.values(), "--model", retrained / "float.tflite", "--json")
    for line, model_line in zip(
        result.stdout.splitlines(), by_model.stdout.splitlines(), strict=True
    ):
        by_graph, expected = json.loads(line), json.loads(model_line)
        assert by_graph["labels"] == expected["labels"]
        assert by_graph["scores"] == pytest.approx(expected["scores"], abs=1e-5)


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


@pytest.mark.parametrize("typed", [("--model", "none.tflite"), ("--threads", 7)])
def test_what_is_for_a_model_is_not_ignored(
    typed: tuple[str, object], retrained: Path, drawn: dict[str, Path]
) -> None:
    result = label(laptop, drawn["red"], "--graph", retrained / "output_graph.pb", *typed)
    assert_failed(result, 2, typed[0], "--graph")


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
    command = f"retrain train DIR --output-dir {tmp_path}"
    assert_failed(result, 3, str(tmp_path / missing), f"run `{command}` first")
