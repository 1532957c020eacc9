"""From a photo to labels with scores, by the model file's own contract."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy import metadata
from deploy.contract import Contract, InputSpec
from deploy.errors import BadData
from deploy.image import normalise, open_image, to_pixels
from deploy.runtime import Model


class Prediction(NamedTuple):
    """A label and its score, a probability of 0..1."""

    label: str
    score: float


def top_k(scores: npt.NDArray[Any], labels: Sequence[str], k: int) -> list[Prediction]:
    """Return the `k` best labels, best first; `scores` is (classes,)."""
    best = np.argsort(-scores, kind="stable")[:k]
    return [Prediction(labels[i], float(scores[i])) for i in best]


class PhotoClassifier(ABC):
    """What has a contract and gives scores by it."""

    contract: Contract

    @abstractmethod
    def scores(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities of an upright RGB image."""

    def classify(self, photo: str | Path, top: int = 5) -> list[Prediction]:
        """Return the `top` best labels of the photo at the path `photo`, best first."""
        with Path(photo).open("rb") as stream:
            image = open_image(stream, self.contract.input)
        return top_k(self.scores(image), self.contract.labels, top)


class Classifier(PhotoClassifier):
    """A model file that is ready to classify. Not for two threads at once: open one for each."""

    def __init__(self, file: metadata.ModelFile, threads: int = 1) -> None:
        """Load the model of `file`; raise BadData where model and contract do not fit."""
        self.file = file
        self.contract = file.contract
        self.model = Model(file.flatbuffer, threads)
        _check(self.model, file.contract.input, len(file.contract.labels))

    @classmethod
    def open(cls, path: str | Path, threads: int = 1) -> "Classifier":
        """Open the .tflite file at `path`, as `retrain convert` writes it."""
        file = metadata.read(Path(path))
        try:
            return cls(file, threads)
        except BadData as error:
            raise BadData(f"{path}: {error}") from error

    def scores(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities of an upright RGB image."""
        tensor: npt.NDArray[Any] = to_pixels(image, self.contract.input)
        if self.model.input_dtype == np.float32:
            tensor = normalise(tensor, self.contract.input)
        return self.model(tensor)


def _check(model: Model, spec: InputSpec, classes: int) -> None:
    shape = (1, spec.height, spec.width, 3)
    if model.input_shape != shape:
        raise BadData(f"the model's input is {model.input_shape}, its contract says {shape}")
    if model.output_width != classes:
        raise BadData(f"the model has {model.output_width} outputs, its contract {classes} labels")
    if model.input_dtype not in (np.uint8, np.float32):
        raise BadData(f"the model's input is {model.input_dtype}, not uint8 or float32")
    scale, zero_point = model.input_quantization
    told = (np.float32(1 / spec.std), spec.mean)
    if model.input_dtype == np.uint8 and (np.float32(scale), zero_point) != told:
        raise BadData(
            f"the model's input has scale and zero point {model.input_quantization}, "
            f"its contract says {(1 / spec.std, spec.mean)}"
        )
