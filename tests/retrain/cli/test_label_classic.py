"""The label command with the options of TensorFlow's label_image.py, on graphs of its time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrain.cli import commands as laptop
from tests.helpers.classic_graphs import (
    LABELS,
    SIDE,
    STYLES,
    Style,
    hub,
    inception,
    mobilenet,
    of_another_program,
    optimized_inception,
    quantized_hub,
    save,
    tf,
    tiny,
    write_labels,
)
from tests.helpers.deploy_fixtures import COLOURS, probabilities
from tests.helpers.label_fixtures import assert_failed, label, shown_scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a graph of each style, labels.txt and red.png. Not to be changed."""
    root = tmp_path_factory.mktemp("classic")
    for style in STYLES:
        save(tiny(style), root / f"{style.__name__}.pb")
    write_labels(root / "labels.txt")
    Image.new("RGB", (40, 30), COLOURS["red"]).save(root / "red.png")
    return root


def classic(folder: Path, style: Style, *options: object) -> Any:
    graph = folder / f"{style.__name__}.pb"
    image = ("--image", folder / "red.png")
    return label(laptop, "--graph", graph, "--labels", folder / "labels.txt", *image, *options)


@pytest.mark.parametrize(
    ("style", "options"),
    [
        (mobilenet, ("--output_layer", "final_result")),
        (mobilenet, ("--output_layer=final_result:0", "--input_layer=input")),
        (mobilenet, ("--output_layer=import/final_result", "--input_layer=import/input")),
        (inception, ("--output_layer=import/final_result:0", "--input_layer=import/Mul")),
        (mobilenet, ("--input_height", SIDE, "--input_width", SIDE)),
        (mobilenet, ("--input_mean", 127.5, "--input_std", 127.5)),
        (hub, ("--input_layer=Placeholder", "--output_layer=final_result")),
        (quantized_hub, ()),
        (inception, ("--input_layer", "DecodeJpeg/contents:0")),
        (inception, ("--input_layer", "Cast")),
        (inception, ("--input_layer", "ResizeBilinear")),
        (inception, ("--input_layer", "Mul", "--input_mean", 128, "--input_std", 128)),
        (optimized_inception, ("--input_height", SIDE, "--input_width", SIDE)),
    ],
)
def test_what_was_typed_for_label_image_works(
    folder: Path, style: Style, options: tuple[object, ...]
) -> None:
    result = classic(folder, style, *options)
    expected = probabilities(COLOURS["red"])
    assert next(iter(shown_scores(result))) == "red"
    for name, score in zip(LABELS, expected, strict=True):
        assert shown_scores(result)[name] == pytest.approx(score, abs=0.01)
    assert not result.stderr


def test_the_number_of_labels_may_be_typed_as_there(folder: Path) -> None:
    assert len(shown_scores(classic(folder, mobilenet, "--num_top_predictions", 2))) == 2


def test_logits_may_be_asked_for(folder: Path) -> None:
    result = classic(folder, mobilenet, "--output_layer", "final_training_ops/Wx_plus_b/add")
    assert shown_scores(result)["red"] > 1.5


def test_what_the_graph_does_not_say_is_as_label_image_had_it(tmp_path: Path) -> None:
    scores = "InceptionV3/Predictions/Softmax"
    graph_def = of_another_program(lambda mean: tf.nn.softmax(100 * mean[:, 0, 0], name=scores))
    save(graph_def, tmp_path / "mobilenet.pb")
    write_labels(tmp_path / "labels.txt", ("r", "g", "b"))
    Image.new("RGB", (8, 8), (101, 100, 100)).save(tmp_path / "red.png")
    result = classic(tmp_path, mobilenet)
    assert shown_scores(result)["r"] == pytest.approx(1 / (1 + 2 * np.exp(-100 / 255)), abs=1e-3)
    assert "--input-mean 0, --input-std 255" in result.stderr


@pytest.mark.parametrize(
    ("style", "options", "code", "words"),
    [
        (mobilenet, ("--output_layer", "softmax"), 3, ("softmax", "final_result")),
        (mobilenet, ("--input_layer", "Mul"), 3, ("Mul", "input:0")),
        (mobilenet, ("--input_layer", "input:1"), 3, ("input:1",)),
        (mobilenet, ("--input_layer", "final_result"), 2, ("final_result",)),
        (mobilenet, ("--input_height", 64), 2, ("--input-height 64", "32x32", "leave")),
        (optimized_inception, (), 3, ("Mul:0", "299x299", "--input-height")),
    ],
)
def test_what_does_not_fit_the_graph_is_named(
    folder: Path, style: Style, options: tuple[object, ...], code: int, words: tuple[str, ...]
) -> None:
    assert_failed(classic(folder, style, *options), code, f"{style.__name__}.pb", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"red\ngreen\n", ("4 outputs", "2 labels")),
        (b"red\n\nblue\ngrey\n", ("line 2",)),
        (b"\n", ("no label",)),
        ("red\ngrün\nblue\ngrey\n".encode("latin-1"), ("UTF-8",)),
        ("red\ngreen\nblue\ngrey\n".encode("utf-16"), ("UTF-16", "UTF-8")),
        (None, ("No such file",)),
    ],
)
def test_labels_that_do_not_fit_are_named(
    folder: Path, tmp_path: Path, text: bytes | None, words: tuple[str, ...]
) -> None:
    labels = tmp_path / "labels.txt"
    if text is not None:
        labels.write_bytes(text)
    graph = folder / "mobilenet.pb"
    result = label(laptop, folder / "red.png", "--graph", graph, "--labels", labels)
    assert_failed(result, 3, str(labels), *words)


def test_labels_are_read_as_label_image_read_them(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes(b"\xef\xbb\xbfred \r\ngreen\t\r\nblue\r\ngrey\r\n\r\n")
    graph = folder / "mobilenet.pb"
    result = label(laptop, folder / "red.png", "--graph", graph, "--labels", labels)
    assert next(iter(shown_scores(result))) == "red"


@pytest.mark.parametrize("text", ["0 red\n1 gr n\n2 blue\n3 grey\n", "0: red\n1:g\n2:b\n3:y"])
def test_numbers_before_all_labels_are_no_part_of_them(
    folder: Path, tmp_path: Path, text: str
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text(text)
    graph = folder / "mobilenet.pb"
    result = label(laptop, folder / "red.png", "--graph", graph, "--labels", labels)
    assert next(iter(shown_scores(result))) == "red"
    labels.write_text("red\n1 b\n2 c\n3 d\n")
    result = label(laptop, folder / "red.png", "--graph", graph, "--labels", labels)
    assert "1 b" in shown_scores(result)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--input_mean", 0, "--input_std", 255), ("--input-mean 0", "128")),
        (("--input_height", 299), ("--input-height 299", "32")),
        (("--input_layer", "Mul"), ("--input-layer Mul", "input")),
    ],
)
def test_an_option_that_contradicts_the_contract_is_refused(
    retrained: Path, drawn: dict[str, Path], options: tuple[object, ...], words: tuple[str, ...]
) -> None:
    graph = retrained / "output_graph.pb"
    result = label(laptop, drawn["red"], "--graph", graph, *options)
    assert_failed(result, 2, str(retrained / "contract.json"), *words, "leave --")


def test_options_that_agree_with_the_contract_are_taken(
    retrained: Path, drawn: dict[str, Path]
) -> None:
    graph = retrained / "output_graph.pb"
    layers = ("--input_layer", "import/input", "--output_layer", "import/final_result:0")
    sizes = ("--input_height", SIDE, "--input_width", SIDE)
    scale = ("--input_mean", 127.5, "--input_std", 127.5)
    result = label(laptop, drawn["red"], "--graph", graph, *layers, *sizes, *scale)
    assert next(iter(shown_scores(result))) == "red"


def test_options_of_a_graph_without_one_are_wrong_use(model: Path, drawn: dict[str, Path]) -> None:
    result = label(laptop, drawn["red"], "--model", model, "--input_mean", 128)
    assert_failed(result, 2, "--input-mean", "--graph")


def test_a_graph_without_contract_and_labels_says_what_to_name(folder: Path) -> None:
    result = label(laptop, folder / "red.png", "--graph", folder / "mobilenet.pb")
    assert_failed(result, 3, str(folder / "contract.json"), "--labels")
