"""Test what settings of training follow from others, and which are refused."""

import math
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import WrongUse
from retrain.settings.source import Source
from retrain.settings.training import AdoptSettings, FineTuneSettings, HeadSettings, TrainSettings


@pytest.mark.parametrize(
    ("photos", "epochs", "averaged_epochs", "views"),
    [
        (1, 40, 40, 10),
        (80, 38, 40, 10),
        (100, 34, 40, 10),
        (800, 12, 16, 10),
        (1_000, 11, 14, 10),
        (2_000, 8, 10, 5),
        (20_000, 2, 3, 1),
        (100_000, 1, 1, 1),
        (10_000_000, 1, 1, 1),
    ],
)
def test_epochs_and_views_follow_from_the_training_photos(
    photos: int, epochs: int, averaged_epochs: int, views: int
) -> None:
    usual, averaged = FineTuneSettings(), FineTuneSettings(average=3)
    assert (usual.epochs_for(photos), usual.views_for(photos)) == (epochs, views)
    assert (averaged.epochs_for(photos), averaged.views_for(photos)) == (averaged_epochs, views)
    typed = FineTuneSettings(epochs=3, views=2, average=2)
    assert (typed.epochs_for(photos), typed.views_for(photos)) == (3, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("weight_decay", -0.1),
        ("weight_decay", math.nan),
        ("label_smoothing", 1.0),
        ("label_smoothing", math.nan),
        ("epochs", 0),
        ("views", 0),
        ("average", 0),
        ("train_batch_size", 0),
    ],
)
def test_nonsense_of_fine_tuning_is_refused_by_setting(name: str, value: float) -> None:
    with pytest.raises(WrongUse, match=f"^`{name}`: must be .*, not {value}$"):
        FineTuneSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("how_many_training_steps", 0),
        ("learning_rate", 0.0),
        ("train_batch_size", 0),
        ("validation_batch_size", -7),
        ("eval_step_interval", 0),
        ("intermediate_store_frequency", -1),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.0),
        ("early_stop", -1),
        ("seed", -1),
    ],
)
def test_nonsense_of_the_head_is_refused_by_setting(name: str, value: float) -> None:
    with pytest.raises(WrongUse, match=f"^`{name}`: must be .*, not {value}$"):
        HeadSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("views", 0), ("test_batch_size", -2)])
def test_nonsense_of_a_run_is_refused_by_setting(name: str, value: int) -> None:
    with pytest.raises(WrongUse, match=f"^`{name}`: must be .*, not {value}$"):
        TrainSettings(Source(Path("photos")), **{name: value})  # type: ignore[arg-type]


def test_the_level_of_the_class_folders_counts_from_1() -> None:
    with pytest.raises(WrongUse, match=r"^`labels_from`: must be 1 or more, not 0$"):
        Source(Path("photos"), labels_from=0)


@pytest.mark.parametrize(
    ("settings", "precision"),
    [
        ({}, "float32"),
        ({"extract_engine": "tflite"}, "float32"),
        ({"extract_engine": "tensorflow"}, "float32"),
        ({"graph": Path("own.pb")}, "float32"),
        ({"graph": Path("own.pb"), "extract_precision": "int8"}, "int8"),
        ({"graph": Path("own.pb"), "trunk": Path("trunk.tflite")}, "int8"),
        ({"trunk": Path("trunk.tflite")}, "int8"),
        ({"extract_precision": "int8"}, "int8"),
        ({"extract_precision": "float32"}, "float32"),
    ],
)
def test_the_precision_follows_from_network_engine_and_trunk(
    settings: dict[str, Any], precision: str
) -> None:
    assert Source(Path("photos"), **settings).precision == precision


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"extract_precision": "int8", "extract_engine": "tensorflow"},
            "int8 runs on tflite: .* leave out `extract_precision` int8",
        ),
        (
            {"trunk": Path("trunk.tflite"), "extract_engine": "tensorflow"},
            "int8 runs on tflite: .* leave out `trunk`",
        ),
        (
            {"trunk": Path("trunk.tflite"), "extract_precision": "float32"},
            "`trunk` is int8: leave it out",
        ),
    ],
)
def test_settings_that_contradict_int8_are_wrong_use(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongUse, match=words):
        Source(Path("photos"), **settings)


def test_ray_runs_tflite_and_an_address_is_rays() -> None:
    with pytest.raises(WrongUse, match="`executor` ray runs the tflite engine only"):
        Source(Path("photos"), executor="ray", extract_engine="tensorflow")
    with pytest.raises(WrongUse, match="`ray_address` is for `executor` ray"):
        Source(Path("photos"), ray_address="auto")
    assert Source(Path("photos"), executor="ray", ray_address="auto").ray_address == "auto"


def test_an_adopted_graph_is_scored_in_float32() -> None:
    source = Source(Path("photos"), graph=Path("own.pb"), extract_precision="int8")
    with pytest.raises(WrongUse, match="`extract_precision`: the figures of an adopted graph"):
        AdoptSettings(source, Path("labels.txt"))


@pytest.mark.parametrize(
    ("settings", "twins"),
    [
        ({"output_graph": "a", "output_labels": "b/../a"}, "`output_labels` .* `output_graph`"),
        ({"output_labels": "a", "checkpoint_path": "a"}, "`checkpoint_path` a: .*`output_labels`"),
        ({"output_labels": "photos.csv"}, "`output_labels` photos.csv: .* `image_dir`"),
        ({"output_graph": "own.pb"}, "`output_graph` own.pb: that is `graph`"),
        ({"checkpoint_path": "trunk.tflite"}, "`checkpoint_path` trunk.tflite: that is `trunk`"),
    ],
)
def test_no_file_is_written_twice_or_over_what_is_read(
    settings: dict[str, str], twins: str
) -> None:
    source = Source(Path("photos.csv"), graph=Path("own.pb"), trunk=Path("trunk.tflite"))
    with pytest.raises(WrongUse, match=twins):
        TrainSettings(source, **{name: Path(path) for name, path in settings.items()})  # type: ignore[arg-type]
