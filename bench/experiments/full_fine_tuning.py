"""Train all layers of MobileNetV2 in plain Keras, for so many seconds: a peer of `--fine-tune`.

The recipe is that of Keras' guide to transfer learning: Adam trains a new head on the frozen
network, then all layers at a low rate, with batch normalization in inference mode; photos are
flipped and cropped at random. The rates are the guide's.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from retrain import backbones, parallel, tf_graph
from retrain.data.manifest import read_manifest
from retrain.data.photo import Photo
from retrain.data.photo_pixels import pixels
from retrain.data.split import TESTING, TRAINING, VALIDATION
from retrain.isolated import run_isolated

NETWORK = "mobilenet_v2"
HEAD_EPOCHS, HEAD_RATE, FULL_RATE, BATCH = 3, 1e-3, 1e-5, 32
_SPEC = backbones.NETWORKS[NETWORK].spec
_SIDES = (_SPEC.height, _SPEC.width, 3)
# A random crop from it shows things at the scale of the product's centre crop, 0.875.
_MARGIN = replace(_SPEC, height=256, width=256, crop=1.0)
_LATE_S = 3600.0
"""Seconds after its time in which the process must end."""


def measure(manifest: Path, weights: Path, seconds: float) -> dict[str, Any]:
    """Train on the split of `manifest` in a new process, and return the figures.

    Training ends after `seconds`, in which the process starts and decodes the photos too. The last
    validation and the test follow, and count in the `seconds` of the row.
    """
    start = time.time()
    row = run_isolated("Keras", seconds + _LATE_S, fine_tune, manifest, weights, start + seconds)
    return {**row, "seconds": time.time() - start, "fine_tuning": None}


def fine_tune(manifest: Path, weights: Path, deadline: float) -> dict[str, Any]:
    """Train until `time.time` is `deadline`; test the epoch with the best validation loss.

    `epochs` are those of the head, and those of all layers; the last one may be incomplete.
    """
    tf_graph.use_onednn()
    tf = tf_graph.tensorflow()
    keras = tf.keras
    photos = read_manifest(manifest)
    labels = sorted({photo.label for photo, _ in photos})

    def dataset(split: str, spec: InputSpec) -> Any:
        members = [photo for photo, its_split in photos if its_split == split]
        targets = [labels.index(photo.label) for photo in members]
        return tf.data.Dataset.from_tensor_slices((_decode(members, spec), targets))

    def distort(image: Any, target: Any) -> tuple[Any, Any]:
        return tf.image.random_flip_left_right(tf.image.random_crop(image, _SIDES)), target

    training = dataset(TRAINING, _MARGIN)
    training = training.shuffle(len(training)).map(distort, tf.data.AUTOTUNE).batch(BATCH)
    training = training.prefetch(tf.data.AUTOTUNE)
    validation, testing = (dataset(split, _SPEC).batch(BATCH) for split in (VALIDATION, TESTING))

    base = keras.applications.MobileNetV2(_SIDES, include_top=False, weights=weights, pooling="avg")
    inputs = keras.Input(_SIDES, dtype="uint8")
    scaled = keras.layers.Rescaling(1 / _SPEC.std, -_SPEC.mean / _SPEC.std)(inputs)
    head = keras.layers.Dense(len(labels), activation="softmax")
    model = keras.Model(inputs, head(base(scaled)))

    epochs: list[float] = []
    losses: list[float] = []
    with TemporaryDirectory(prefix="retrain-") as folder:
        best = Path(folder, "best.weights.h5")
        callbacks = [
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda *_, **__: setattr(
                    model, "stop_training", time.time() > deadline
                )
            ),
            keras.callbacks.ModelCheckpoint(best, save_best_only=True, save_weights_only=True),
        ]
        for all_layers, rate, most in ((False, HEAD_RATE, HEAD_EPOCHS), (True, FULL_RATE, 10_000)):
            if losses and time.time() > deadline:
                break
            base.trainable = all_layers
            for layer in base.layers:
                # Not by `training=False`: Keras 3 passes the outer model's value down instead.
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False
            optimizer = keras.optimizers.Adam(rate)
            model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
            history = model.fit(
                training, epochs=most, validation_data=validation, callbacks=callbacks, verbose=0
            ).history
            epochs.append(int(optimizer.iterations) / len(training))
            losses += history["val_loss"]
        model.load_weights(best)
    accuracy = model.evaluate(testing, verbose=0, return_dict=True)["accuracy"]
    total = sum(split == TESTING for _, split in photos)
    return {"graph": accuracy, "total": total, "epochs": epochs, "validation_losses": losses}


def _decode(photos: Sequence[Photo], spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return uint8 (photos, height, width, 3), decoded on all cores."""
    return np.concatenate(
        parallel.run_in_order(
            photos, lambda: spec, lambda spec, photo: pixels(photo, spec), lambda _: None
        )
    )
