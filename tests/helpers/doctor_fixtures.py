"""Make training data of bottlenecks that a test chooses, without photos on the disk."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from retrain.backbones import Backbone
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.dataset import Dataset
from retrain.data.folder_layout import ClassFolder
from retrain.data.photo import Photo
from retrain.data.photo_table import PhotoTable
from retrain.data.split import SPLITS, Splits
from retrain.settings.source import Source
from retrain.training.head import Examples
from retrain.training.load_examples import TrainingData

ROOT = Path("photos")
SOURCE = Source(ROOT)


def labelled_photos(labels: Sequence[str], names: Sequence[str] = ()) -> list[Photo]:
    """Return a photo for each label; its name is its number, unless `names` has another."""
    names = names or [f"{number}.jpg" for number in range(len(labels))]
    return [
        Photo(ROOT / label / name, label, hashlib.sha256(f"{number}".encode()).digest())
        for number, (label, name) in enumerate(zip(labels, names, strict=True))
    ]


def training_data(
    points: npt.NDArray[Any], labels: Sequence[str], names: Sequence[str] = ()
) -> TrainingData:
    """Return photos with bottlenecks `points` (N, D), of the splits in turn."""
    photos = labelled_photos(labels, names)
    classes = tuple(sorted(set(labels)))
    store = FeatureStore.of(points)
    indices = np.array([classes.index(label) for label in labels])
    splits = [SPLITS[number % 3] for number in range(len(labels))]
    examples = {}
    for split in SPLITS:
        members = np.flatnonzero(np.array(splits) == split)
        examples[split] = Examples(store, members[:, np.newaxis], indices[members])
    spec = InputSpec(224, 224, 0.875, 127.0, 128.0)
    return TrainingData(
        Backbone("points", spec, points.shape[1], "0" * 64, Path("none"), b""),
        Dataset(
            ROOT,
            tuple(ClassFolder(label, ROOT / label) for label in classes),
            PhotoTable.of(photos),
            (),
        ),
        classes,
        Splits.of(splits),
        examples,
        PhotoTable.of(()),
        0,
    )


def clusters(
    counts: Sequence[int], apart: float, width: int = 16, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return normal clusters of `counts` points, their centres on axes of their own, and labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = apart * np.eye(len(counts), width)
    return centres[labels] + random.normal(size=(len(labels), width)), labels
