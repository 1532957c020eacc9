"""The settings of a run are read as they were, and their options give them again."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.versioned_json import Fields
from retrain.cli import commands
from retrain.cli.train import train
from retrain.settings.conversion import About, Bounds, ConvertSettings, Quantization
from retrain.settings.source import Source
from retrain.settings.training import (
    Distortion,
    FineTuneSettings,
    HeadSettings,
    SplitSettings,
    TrainSettings,
)
from retrain.stored_settings import _options_of, options, read, settings_to_options, to_json

SPLIT = SplitSettings(20.0, 12.5, "two words")
PUBLISHED = TrainSettings(
    Source(
        Path("/photos"),
        "mobilenet_v2",
        Path("/cache"),
        "s3://bucket/rows",
        weights=Path("/my weights.h5"),
        labels_from=2,
        trunk=Path("/trunk.tflite"),
        executor="ray",
        ray_address="auto",
    ),
    Path("/run"),
    SPLIT,
    HeadSettings(
        how_many_training_steps=7,
        learning_rate=5e-05,
        train_batch_size=9,
        validation_batch_size=-1,
        eval_step_interval=3,
        intermediate_store_frequency=4,
        optimizer="sgd",
        weight_decay=0.25,
        label_smoothing=0.125,
        class_weight="balanced",
        early_stop=5,
        seed=6,
    ),
    Distortion(True, 1, 2, 3, 4, 5, 6),
    views=2,
    test_batch_size=8,
    final_tensor_name="classes",
    print_misclassified_test_images=True,
    resume=True,
    output_graph=Path("/a/graph.pb"),
    output_labels=Path("/a/labels.txt"),
    summaries_dir=Path("/a/events"),
    checkpoint_path=Path("/a/checkpoint.npz"),
    saved_model_dir=Path("/a/saved"),
    intermediate_output_graphs_dir=Path("/a/graphs"),
)
OWN = TrainSettings(
    Source(
        "s3://bucket/photos.csv",
        graph=Path(__file__),
        input_tensor="Mul:0",
        bottleneck_tensor="pool:0",
        input_size=(96, 128),
        input_mean=127.5,
        input_std=128.0,
        extract_engine="tflite",
        extract_precision="int8",
    ),
    Path("/run"),
)
CONVERSION = ConvertSettings(
    Path("/run"),
    Quantization("int8", "uint8", ("one", "two"), time_limit=9),
    explain=True,
    calibration_images=12,
    target="litert",
    target_python=(Path("/one/python"), Path("/two/python")),
    bounds=Bounds(2.5, 80, 0.1),
    goldens=3,
    reject_rate=0.05,
    seed=1,
    about=About("Two words", "Ada", "apache-2.0"),
)
TUNED = TrainSettings(
    Source(Path("/photos")), Path("/run"), fine_tuning=FineTuneSettings(cut="x", epochs=3)
)


def parsed(monkeypatch: pytest.MonkeyPatch, program: str, *words: str) -> Any:
    """Return the settings that a command gives to `program`, the function that does its work."""
    parsed_settings = []

    def take(settings: Any, *_: Any) -> None:
        parsed_settings.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(program, take)
    CliRunner().invoke(commands, words)
    return parsed_settings.pop()


@pytest.mark.parametrize("settings", [PUBLISHED, OWN], ids=["published", "own"])
def test_options_give_the_settings_of_a_training_again(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", *options(settings))
    assert parsed(monkeypatch, "retrain.training.train.train", *words) == settings


def test_options_give_the_settings_of_a_conversion_again(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("convert", *options(CONVERSION))
    assert parsed(monkeypatch, "retrain.conversion.convert.convert", *words) == CONVERSION


def test_defaults_and_what_is_left_out_are_no_options() -> None:
    assert options(TrainSettings(Source(Path("/photos"))), ("image_dir",)) == []
    assert "--seed" not in options(PUBLISHED, ("seed",))


@pytest.mark.parametrize("settings", [PUBLISHED, OWN, CONVERSION, TUNED])
def test_what_is_written_is_read_again(settings: Any) -> None:
    record = json.loads(json.dumps(to_json(settings)))
    assert read(Fields(record, "metrics.json", "train again"), type(settings)) == settings


def test_paths_are_written_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    record = to_json(TrainSettings(Source(Path("photos"), graph=Path("net.pb"))))
    assert record["source"]["image_dir"] == str(tmp_path / "photos")
    assert record["source"]["graph"] == str(tmp_path / "net.pb")


def test_settings_in_a_text_become_the_options_of_train() -> None:
    text = "use `labels_from` 2, `class_weight` balanced, `split_salt` and `seed`, not `split`"
    assert settings_to_options(text, TrainSettings) == (
        "use --labels-from 2, --class-weight balanced, --split-salt and --seed, not `split`"
    )


def test_each_setting_of_the_training_becomes_an_option_that_it_has() -> None:
    spelled = [option for parameter in train.params for option in parameter.opts]
    options_of_settings = _options_of(TrainSettings)
    assert len(options_of_settings) > 40
    without = set(options_of_settings.values()) - {text.replace("_", "-") for text in spelled}
    assert without == {"--blank-centre"}  # no command sets it, no text names it
