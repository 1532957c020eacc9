"""From a photo to labels with scores, by the model file's own contract."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy import model_file
from deploy.contract import Contract, InputSpec
from deploy.errors import BadData, WrongUse
from deploy.foreign_files import naming
from deploy.image import MAX_BYTES, normalise, open_image, to_pixels, upright
from deploy.runtime import Model

Photo = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
UNKNOWN = "unknown"
"""The answer for a photo of nothing that the model knows. A class may be named so too."""
_ARRAY = "uint8 (height, width, 3)"


class Prediction(NamedTuple):
    """A label and its score, a probability of 0..1."""

    label: str
    score: float


def top_k(scores: npt.NDArray[Any], labels: Sequence[str], k: int) -> list[Prediction]:
    """Return the `k` best labels, best first; `scores` is (classes,)."""
    best = np.argsort(-scores, kind="stable")[:k]
    return [Prediction(labels[i], float(scores[i])) for i in best]


def decide(scores: npt.NDArray[Any], contract: Contract, k: int) -> list[Prediction]:
    """Return the `k` best labels, after UNKNOWN if the best score is below the threshold.

    The score of UNKNOWN is what the best label lacks to 1. `scores` is (classes,).
    """
    predictions, best = top_k(scores, contract.labels, k), float(scores.max())
    if contract.reject_threshold is None or best >= contract.reject_threshold:
        return predictions
    others = [each for each in predictions if each.label != UNKNOWN]
    return [Prediction(UNKNOWN, 1 - best), *others][:k]


class Answer(NamedTuple):
    """The labels of a photo, best first, and the milliseconds that each step took."""

    predictions: list[Prediction]
    ms: dict[str, float]

    @property
    def unknown(self) -> bool:
        """Whether the answer is UNKNOWN, by the contract's threshold or by a class of that name."""
        return [each.label for each in self.predictions[:1]] == [UNKNOWN]


class PhotoClassifier(ABC):
    """What has a contract and gives scores by it."""

    contract: Contract

    @abstractmethod
    def prepare(self, image: Image.Image) -> npt.NDArray[Any]:
        """Return the network's input, (1, height, width, 3), of an upright RGB image."""

    @abstractmethod
    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities for a network's input."""

    def scores(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities of an upright RGB image."""
        return self.run(self.prepare(image))

    def classify(self, photo: Photo, top: int = 5) -> list[Prediction]:
        """Return the `top` best labels of `photo`, best first; before them UNKNOWN, if it is.

        A photo is a path, the bytes of a file, a PIL image, or a numpy array of uint8 (height,
        width, 3), RGB. Raises BadData for what cannot be decoded, WrongUse for anything else,
        OSError for a file that cannot be read.
        """
        return self.answer(photo, top).predictions

    def answer(self, photo: Photo, top: int = 5) -> Answer:
        """Return what `classify` returns, with the time of decoding, preparing and running."""
        if top < 1:
            raise WrongUse(f"top={top}: how many labels, at least 1")
        started = time.perf_counter_ns()
        image = to_image(photo, self.contract.input)
        decoded = time.perf_counter_ns()
        tensor = self.prepare(image)
        prepared = time.perf_counter_ns()
        scores = self.run(tensor)
        done = time.perf_counter_ns()
        steps = (("decode", decoded - started), ("preprocess", prepared - decoded))
        ms = {name: ns / 1e6 for name, ns in (*steps, ("invoke", done - prepared))}
        return Answer(decide(scores, self.contract, top), ms)


def to_image(photo: Photo, spec: InputSpec) -> Image.Image:
    """Return an upright RGB image of what `classify` takes; raise what it raises."""
    if isinstance(photo, (str, os.PathLike)):
        with Path(photo).open("rb") as stream:
            # A pipe, such as /dev/stdin, cannot go back.
            return open_image(stream if stream.seekable() else stream.read(MAX_BYTES + 1), spec)
    if isinstance(photo, bytes):
        return open_image(photo, spec)
    if isinstance(photo, np.ndarray):
        if photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3 and photo.size:
            return Image.fromarray(photo)
        raise WrongUse(f"an array of {photo.dtype} {photo.shape}: {_ARRAY} is a photo")
    if isinstance(photo, Image.Image):
        if photo.mode == "F" or not all(photo.size):
            raise WrongUse(f"a PIL image of mode {photo.mode}, {photo.size}: no photo")
        try:
            return upright(photo)
        except Exception as error:  # it may not have been decoded yet
            raise BadData(f"the image is damaged: {error}") from error
    raise WrongUse(
        f"{type(photo).__name__} is no photo: give a path, the bytes of a file, a PIL image, "
        f"or a numpy array of {_ARRAY}"
    )


class Classifier(PhotoClassifier):
    """A model file that is ready to classify.

    Threads may share it: they decode side by side and take turns at the network. One for each
    thread runs the networks side by side too.
    """

    def __init__(self, file: model_file.ModelFile, threads: int = 1) -> None:
        """Load the model of `file`; raise BadData where model and contract do not fit."""
        self.file = file
        self.contract = file.contract
        self.model = Model(file.flatbuffer, threads)
        _check(self.model, file.contract.input, len(file.contract.labels))

    @classmethod
    def open(cls, path: str | Path, threads: int = 1) -> "Classifier":
        """Open the .tflite file at `path`, as `retrain convert` writes it."""
        path = Path(path)
        with naming(path):
            return cls(model_file.read(path), threads)

    def prepare(self, image: Image.Image) -> npt.NDArray[Any]:
        """Return uint8 or float32 (1, height, width, 3), what the model takes."""
        pixels = to_pixels(image, self.contract.input)
        if self.model.input_dtype == np.float32:
            return normalise(pixels, self.contract.input)
        return pixels

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities for a model's input.

        Raises BadData for a model that gives anything else.
        """
        scores = self.model(tensor)
        if scores.shape != (len(self.contract.labels),) or not np.isfinite(scores).all():
            raise BadData(f"the model gives no scores: {scores.shape} numbers, or some are none")
        return scores


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
