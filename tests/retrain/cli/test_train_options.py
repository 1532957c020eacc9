"""Test that every option of `retrain train` reaches its setting, and that nonsense is refused."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import pytest

from retrain import backbones
from retrain.cli.train import train as command
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.settings.cache import UrlPlace
from retrain.settings.source import DEFAULT_ARCHITECTURE, Source
from retrain.settings.training import FineTuneSettings, TrainSettings
from tests.helpers.runs import Invoke

CLASSIC_DEFAULTS = {
    "how_many_training_steps": 4000,
    "learning_rate": 0.01,
    "testing_percentage": 10.0,
    "validation_percentage": 10.0,
    "eval_step_interval": 10,
    "train_batch_size": 100,
    "test_batch_size": -1,
    "validation_batch_size": 100,
    "print_misclassified_test_images": False,
    "final_tensor_name": "final_result",
    "flip_left_right": False,
    "random_crop": 0,
    "random_scale": 0,
    "random_brightness": 0,
    "intermediate_store_frequency": 0,
    "logging_verbosity": "info",
}

DISTORTIONS = [
    ("--random_crop", "7", "distortion.random_crop", 7),
    ("--random_scale", "7", "distortion.random_scale", 7),
    ("--random_brightness", "7", "distortion.random_brightness", 7),
    ("--random-contrast", "7", "distortion.random_contrast", 7),
    ("--random-saturation", "7", "distortion.random_saturation", 7),
    ("--random-area", "7", "distortion.random_area", 7),
]
SETTINGS = [
    ("--image_dir", "some_photos", "source.image_dir", Path("some_photos")),
    ("--architecture", "other_net", "source.architecture", "other_net"),
    ("--bottleneck_dir", "a_b/c", "source.bottleneck_dir", Path("a_b/c")),
    ("--cache-dir", "a_b/c", "source.cache_dir", Path("a_b/c")),
    ("--labels-from", "2", "source.labels_from", 2),
    ("--output-dir", "a_b/c", "output_dir", Path("a_b/c")),
    ("--output_graph", "a_b/c.pb", "output_graph", Path("a_b/c.pb")),
    ("--output_labels", "a_b/c.txt", "output_labels", Path("a_b/c.txt")),
    ("--summaries_dir", "a_b/c", "summaries_dir", Path("a_b/c")),
    ("--saved_model_dir", "a_b/c", "saved_model_dir", Path("a_b/c")),
    ("--checkpoint_path", "a_b/c", "checkpoint_path", Path("a_b/c")),
    ("--intermediate_output_graphs_dir", "a_b", "intermediate_output_graphs_dir", Path("a_b")),
    ("--intermediate_store_frequency", "7", "head.intermediate_store_frequency", 7),
    ("--how_many_training_steps", "7", "head.how_many_training_steps", 7),
    ("--learning_rate", "0.5", "head.learning_rate", 0.5),
    ("--train_batch_size", "7", "head.train_batch_size", 7),
    ("--validation_batch_size", "-1", "head.validation_batch_size", -1),
    ("--eval_step_interval", "7", "head.eval_step_interval", 7),
    ("--optimizer", "sgd", "head.optimizer", "sgd"),
    ("--weight-decay", "0.5", "head.weight_decay", 0.5),
    ("--label-smoothing", "0.5", "head.label_smoothing", 0.5),
    ("--class-weight", "balanced", "head.class_weight", "balanced"),
    ("--early-stop", "7", "head.early_stop", 7),
    ("--seed", "7", "head.seed", 7),
    ("--testing_percentage", "7.5", "split.testing_percentage", 7.5),
    ("--validation_percentage", "7", "split.validation_percentage", 7.0),
    ("--split-salt", "some_salt", "split.salt", "some_salt"),
    ("--test_batch_size", "7", "test_batch_size", 7),
    ("--flip_left_right", None, "distortion.flip_left_right", True),
    *DISTORTIONS,
    ("--views", "7", "views", 7),
    ("--final_tensor_name", "my_result", "final_tensor_name", "my_result"),
    ("--print_misclassified_test_images", None, "print_misclassified_test_images", True),
    ("--resume", None, "resume", True),
    ("--extract-engine", "tensorflow", "source.extract_engine", "tensorflow"),
    ("--extract-precision", "int8", "source.extract_precision", "int8"),
    ("--executor", "ray", "source.executor", "ray"),
    ("--trunk", "a_b/trunk.tflite", "source.trunk", Path("a_b/trunk.tflite")),
    ("--weights", "a_b/c.h5", "source.weights", Path("a_b/c.h5")),
]
NEEDED = {
    "--views": ["--flip_left_right"],
    "--intermediate_output_graphs_dir": ["--intermediate_store_frequency", "7"],
}
"""Without these options, one would be ignored, and is refused."""
FINE_TUNING = [
    ("--cut", "block_7", "cut", "block_7"),
    ("--epochs", "7", "epochs", 7),
    ("--average", "7", "average", 7),
    ("--learning_rate", "0.5", "learning_rate", 0.5),
    ("--weight-decay", "0.5", "weight_decay", 0.5),
    ("--label-smoothing", "0.5", "label_smoothing", 0.5),
    ("--train_batch_size", "7", "train_batch_size", 7),
    ("--views", "7", "views", 7),
    ("--no-flip-left-right", None, "distortion.flip_left_right", False),
    *DISTORTIONS,
]
"""Options that with --fine-tune set it, and nothing of the head."""
OWN = {
    "--graph": __file__,
    "--input-tensor": "Mul:0",
    "--bottleneck-tensor": "pool_3/_reshape:0",
    "--input-size": "299",
    "--input-mean": "128",
    "--input-std": "127.5",
}
"""Options of a network of the user's own; all need the first."""
SHOWN = {"--progress", "--logging-verbosity", "--json", "--no-report"}
"""Options that decide what is shown, and are no settings."""

USUAL = TrainSettings(Source(Path("photos")))

RESULT = SimpleNamespace(test=SimpleNamespace(accuracy=Accuracy(1, 1)))

Parse = Callable[..., TrainSettings]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, invoke: Invoke) -> Parse:
    """Return a function from the arguments of `retrain train` to its settings."""
    calls: list[TrainSettings] = []

    def stand_in(settings: TrainSettings, _progress: object) -> SimpleNamespace:
        calls.append(settings)
        return RESULT

    def parse_arguments(*arguments: object) -> TrainSettings:
        result = invoke("train", *arguments)
        assert result.exit_code == 0, result.output
        return calls.pop()

    monkeypatch.setattr("retrain.training.train.train", stand_in)
    monkeypatch.setattr(backbones, "NAMES", (DEFAULT_ARCHITECTURE, "other_net"))
    return parse_arguments


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(("option", "text", "where", "value"), SETTINGS)
def test_an_option_sets_its_setting_and_no_other(
    option: str, text: str | None, where: str, value: object, joined: bool, parse: Parse
) -> None:
    typed = [option] if text is None else [f"{option}={text}"] if joined else [option, text]
    photos = [] if option == "--image_dir" else ["photos"]
    needed = [*NEEDED.get(option, ()), *photos]
    settings = parse(*typed, *needed)
    assert attrgetter(where)(settings) == value
    names = {name for _, _, name, _ in SETTINGS}
    usual = parse(*needed) if photos else USUAL
    assert {name for name in names if attrgetter(name)(settings) != attrgetter(name)(usual)} == {
        where
    }


def all_options() -> list[str]:
    return [
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    ]


def test_no_option_is_forgotten_here() -> None:
    there = {option for option in all_options() if option.startswith("--")}
    settings = {option.replace("_", "-") for option, *_ in (*SETTINGS, *FINE_TUNING)}
    assert settings | SHOWN | {*OWN, "--fine-tune", "--ray-address"} == there


def test_the_address_is_that_of_ray(parse: Parse, invoke: Invoke) -> None:
    source = parse("photos", "--executor", "ray", "--ray-address", "head:6379").source
    assert (source.executor, source.ray_address) == ("ray", "head:6379")
    result = invoke("train", "photos", "--ray-address", "head:6379")
    assert result.exit_code == 2
    assert "--ray-address is for --executor ray" in result.stderr


def test_bottlenecks_may_lie_at_a_url(parse: Parse) -> None:
    urls = ("s3://bucket/cache", "s3://bucket/other")
    places = [parse("photos", "--bottleneck-dir", url).source.bottlenecks for url in urls]
    assert [str(place) for place in places] == [*urls]
    copies = {place.copy for place in places if isinstance(place, UrlPlace)}
    assert len(copies) == 2
    assert {copy.parent for copy in copies} == {USUAL.source.cache_dir / "copies"}
    folder = parse("photos", "--bottleneck-dir", "file:///a/b").source
    assert folder.bottlenecks == Path("/a/b")


@pytest.mark.parametrize(("option", "text", "where", "value"), FINE_TUNING)
def test_with_fine_tune_an_option_is_one_of_fine_tuning_and_of_nothing_else(
    option: str, text: str | None, where: str, value: object, parse: Parse
) -> None:
    typed = [option] if text is None else [option, text]
    settings = parse("photos", "--fine-tune", *typed)
    assert settings.fine_tuning is not None
    assert attrgetter(where)(settings.fine_tuning) == value
    usual = FineTuneSettings()
    places = {place for _, _, place, _ in FINE_TUNING}
    assert {
        place
        for place in places
        if attrgetter(place)(settings.fine_tuning) != attrgetter(place)(usual)
    } == {where}
    assert replace(settings, fine_tuning=None) == USUAL


@pytest.mark.parametrize(
    ("option", "text", "where", "value"),
    [setting for setting in SETTINGS if setting[0] in ("--seed", "--early-stop", "--resume")],
)
def test_with_fine_tune_other_options_are_the_same(
    option: str, text: str | None, where: str, value: object, parse: Parse
) -> None:
    settings = parse("photos", "--fine-tune", option, *([text] if text else []))
    assert attrgetter(where)(settings) == value
    assert settings.fine_tuning == FineTuneSettings()


def test_with_fine_tune_alone_the_command_asks_for_what_python_does(parse: Parse) -> None:
    assert parse("photos", "--fine-tune") == replace(USUAL, fine_tuning=FineTuneSettings())


@pytest.mark.parametrize(
    "typed", [("--cut", "block_7"), ("--epochs", "7"), ("--average", "1"), ("--average", "3")]
)
def test_options_of_fine_tuning_alone_need_it(
    typed: tuple[str, ...], invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("train", "none", *typed)
    assert result.exit_code == 2
    assert f"{typed[0]} is for --fine-tune: add it" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_network_of_ones_own_is_described_in_full(parse: Parse, invoke: Invoke) -> None:
    source = parse("photos", *(word for pair in OWN.items() for word in pair)).source
    assert source.graph == Path(__file__)
    assert (source.input_tensor, source.bottleneck_tensor) == ("Mul:0", "pool_3/_reshape:0")
    assert (source.input_size, source.input_mean, source.input_std) == (299, 128.0, 127.5)
    for option, value in list(OWN.items())[1:]:
        result = invoke("train", "photos", option, value)
        assert result.exit_code == 2
        assert f"{option} is for a network named with --graph" in result.stderr


def test_without_options_the_command_asks_for_what_python_does(parse: Parse) -> None:
    assert parse("photos") == USUAL


@pytest.mark.parametrize(("name", "default"), CLASSIC_DEFAULTS.items())
def test_defaults_are_the_classics_and_shown(
    name: str, default: object, parse: Parse, invoke: Invoke
) -> None:
    places = [where for option, _, where, _ in SETTINGS if option == f"--{name}"]
    assert [attrgetter(where)(parse("photos")) for where in places] == [default] * len(places)
    text = re.sub(r"\s+", " ", invoke("train", "--help").stdout)
    shown = text.split(f" --{name.replace('_', '-')}")[1].split(" --")[0]
    assert re.findall(r"\[default: ([^];]+)", shown) == [str(default)] * (default is not False)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--flip_lft_right", "--flip-left-right"),
        ("--learning-rat", "--learning-rate"),
        ("--how_many_trainin_steps=5", "--how-many-training-steps"),
        ("--optimiser", "--optimizer"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(
    typed: str, meant: str, invoke: Invoke
) -> None:
    result = invoke("train", "photos", typed)
    assert result.exit_code == 2
    assert re.search(f"Did you mean (one of: )?'{meant}'", result.stderr)


@pytest.mark.parametrize(
    "typed",
    [
        ("--learning_rate", "nan"),
        ("--learning_rate", "nan", "--fine-tune"),
        ("--weight-decay", "nan", "--fine-tune"),
        ("--label-smoothing", "nan", "--fine-tune"),
        ("--random_crop", "101", "--fine-tune"),
        ("--epochs", "0", "--fine-tune"),
        ("--average", "0", "--fine-tune"),
        ("--testing_percentage", "nan"),
        ("--testing_percentage", "60", "--validation_percentage", "40"),
        ("--test_batch_size", "0"),
        ("--validation_batch_size", "0"),
        ("--random_crop", "101"),
        ("--class-weight", "some"),
        ("--weight-decay", "nan"),
        ("--label-smoothing", "nan"),
        ("--final_tensor_name", "a b"),
        ("--final_tensor_name", "input"),
        ("--final_tensor_name", "logits"),
        ("--final_tensor_name", "x" * 257),
        ("--saved_model_dir", "run"),
        ("--intermediate_output_graphs_dir", "graphs"),
        ("--views", "4"),
        ("--views", "7", "--random-crop", "0"),
        ("--image-dir", ""),
        ("--output_graph", "run/metrics.json"),
        ("--output_labels", "x/../run/output_graph.pb"),
        ("--checkpoint-path", "run/model.tflite"),
        ("--output_labels", "one", "--output_graph", "one"),
    ],
)
def test_nonsense_is_refused_by_option_before_anything_is_done(
    typed: tuple[str, ...], tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # There are no such photos: were they looked for first, the exit code would say bad data.
    result = invoke("train", "none", "--output-dir", "run", *typed)
    assert result.exit_code == 2, result.stderr
    assert typed[0].replace("_", "-") in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["auto", "plain"])
def test_a_terminal_gets_a_bar_unless_plain_lines_are_asked_for(
    form: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_terminal(_settings: object, progress: Progress) -> SimpleNamespace:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with progress.bar("training", 2, "steps") as advance:
            advance(2)
        return RESULT

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("retrain.training.train.train", on_terminal)
    shown = invoke("train", "photos", "--progress", form).stderr
    assert ("2/2 steps (" in shown) == (form == "plain")
    assert "2/2" in shown
