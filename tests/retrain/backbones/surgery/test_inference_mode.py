"""Load SavedModels that Keras left in training mode with the features of the .keras file."""

from pathlib import Path

import numpy as np
import pytest

from deploy.errors import BadData
from tests.helpers.own_networks import SIDE, load, require_same, tf

kinds = tf.keras.layers


def augmented(before: list[object], policy: str = "float32") -> object:
    """Return a classifier that begins with the layers `before`."""
    tf.keras.utils.set_random_seed(0)
    tf.keras.mixed_precision.set_global_policy(policy)
    images = x = tf.keras.Input((SIDE, SIDE, 3))
    for layer in before:
        x = layer(x)  # type: ignore[operator]
    x = kinds.BatchNormalization()(kinds.Conv2D(6, 3, 2, activation="relu")(x))
    x = kinds.GlobalAveragePooling2D()(kinds.Dropout(0.5)(x))
    model = tf.keras.Model(images, kinds.Dense(3, dtype="float32")(x))
    tf.keras.mixed_precision.set_global_policy("float32")
    random = np.random.default_rng(0)
    for weight in model.weights:
        if "moving" in weight.path:
            weight.assign(random.uniform(0.1, 1, weight.shape))
    return model


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_augmentation_and_batch_statistics_are_off(policy: str, tmp_path: Path) -> None:
    model = augmented(
        [kinds.RandomFlip(), kinds.RandomRotation(0.1), kinds.RandomContrast(0.2)], policy
    )
    model.export(tmp_path / "mine", verbose=False)  # type: ignore[attr-defined]
    model.save(tmp_path / "mine.keras")  # type: ignore[attr-defined]
    tensor = np.random.default_rng(1).uniform(-1, 1, (3, SIDE, SIDE, 3)).astype(np.float32)
    inner = tf.keras.Model(model.inputs, model.layers[-1].input)  # type: ignore[attr-defined]
    expected = np.asarray(inner(tensor, training=False), np.float32)
    for path in (tmp_path / "mine", tmp_path / "mine.keras"):
        backbone = load(path, tmp_path, size=None)
        if policy == "float32":
            require_same(backbone, expected, tensor)
        assert backbone.width == 6


def test_a_random_crop_is_refused_with_the_remedy(tmp_path: Path) -> None:
    model = augmented([kinds.RandomCrop(SIDE - 8, SIDE - 8)])
    model.export(tmp_path / "mine", verbose=False)  # type: ignore[attr-defined]
    with pytest.raises(BadData, match=r"draws random numbers.*pass its \.keras file"):
        load(tmp_path / "mine", tmp_path, size=None)
