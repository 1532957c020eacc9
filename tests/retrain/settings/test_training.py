"""Test what settings of training follow from others, and which are refused."""

import math

import pytest

from deploy.errors import WrongUse
from retrain.settings.training import FineTuneSettings


@pytest.mark.parametrize(
    ("photos", "epochs", "views"),
    [
        (1, 40, 10),
        (80, 40, 10),
        (100, 37, 10),
        (800, 16, 10),
        (1_000, 15, 10),
        (2_000, 11, 5),
        (20_000, 4, 1),
        (100_000, 2, 1),
        (10_000_000, 1, 1),
    ],
)
def test_epochs_and_views_follow_from_the_training_photos(
    photos: int, epochs: int, views: int
) -> None:
    usual = FineTuneSettings()
    assert (usual.epochs_for(photos), usual.views_for(photos)) == (epochs, views)
    typed = FineTuneSettings(epochs=3, views=2)
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
