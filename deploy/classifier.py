"""Classify a photo by a model file and its own contract: labels with scores."""

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
from deploy.image import MAX_PHOTO_BYTES, normalise, open_image, to_pixels, upright
from deploy.runtime import Model
from deploy.system.counts import with_noun
from deploy.untrusted_files import naming

Photo = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
UNKNOWN = "unknown"
"""The word that stands for a rejected photo in output; a class may have this label too."""
_ARRAY = "uint8 (height, width, 3)"


class Prediction(NamedTuple):
    """A label and its score, a probability of 0..1.

    The label is None for a rejected photo, which resembles no class of the model.
    """

    label: str | None
    score: float

    @property
    def text(self) -> str:
        """The label, or UNKNOWN for a rejected photo."""
        return UNKNOWN if self.label is None else self.label


def top_k(scores: npt.NDArray[Any], labels: Sequence[str], k: int) -> list[Prediction]:
    """Return the `k` best labels, best first; `scores` is (classes,)."""
    best = np.argsort(-scores, kind="stable")[:k]
    return [Prediction(labels[i], float(scores[i])) for i in best]


def decide(scores: npt.NDArray[Any], contract: Contract, k: int) -> list[Prediction]:
    """Return the `k` best predictions; a rejection comes first if the best score is too low.

    The score of the rejection is 1 minus the best score. `scores` is (classes,).
    """
    predictions, best = top_k(scores, contract.labels, k), float(scores.max())
    if contract.reject_threshold is None or best >= contract.reject_threshold:
        return predictions
    return [Prediction(None, 1 - best), *predictions][:k]


class Answer(NamedTuple):
    """The predictions for a photo, best first, and the milliseconds that each step took."""

    predictions: list[Prediction]
    ms: dict[str, float]

    @property
    def rejected(self) -> bool:
        """Whether the best score is below the contract's reject threshold."""
        return bool(self.predictions) and self.predictions[0].label is None


class PhotoClassifier(ABC):
    """A classifier of photos by a contract, whatever runs the network."""

    contract: Contract

    @abstractmethod
    def prepare(self, image: Image.Image) -> npt.NDArray[Any]:
        """Return the network's input, (1, height, width, 3), for an upright RGB image."""

    @abstractmethod
    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities for a network's input."""

    def scores(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities for an upright RGB image."""
        return self.run(self.prepare(image))

    def classify(self, photo: Photo, top: int = 5) -> list[Prediction]:
        """Return the `top` best predictions for `photo`, best first.

        The first one has no label, None, if the photo is rejected. A photo is a path, the bytes of
        a file, a PIL image, or a numpy array of uint8 (height, width, 3), RGB. Raises BadData for
        a photo that cannot be decoded, WrongUse for another type, OSError for a file that cannot
        be read.
        """
        return self.answer(photo, top).predictions

    def answer(self, photo: Photo, top: int = 5) -> Answer:
        """Return what `classify` returns, with the times of decoding, preparing and running."""
        if top < 1:
            raise WrongUse(f"top={top}: how many labels, at least 1")
        start = time.perf_counter_ns()
        image = to_image(photo, self.contract.input)
        decoded = time.perf_counter_ns()
        tensor = self.prepare(image)
        prepared = time.perf_counter_ns()
        scores = self.run(tensor)
        end = time.perf_counter_ns()
        steps = (("decode", decoded - start), ("preprocess", prepared - decoded))
        ms = {name: ns / 1e6 for name, ns in (*steps, ("invoke", end - prepared))}
        return Answer(decide(scores, self.contract, top), ms)


def to_image(photo: Photo, spec: InputSpec) -> Image.Image:
    """Return an upright RGB image of a photo of any type that `classify` takes.

    Raises what `classify` raises.
    """
    if isinstance(photo, (str, os.PathLike)):
        with Path(photo).open("rb") as stream:
            # A pipe, such as /dev/stdin, cannot go back.
            content = stream if stream.seekable() else stream.read(MAX_PHOTO_BYTES + 1)
            return open_image(content, spec)
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
        except Exception as error:  # Pillow may decode it only here
            raise BadData(f"the image is damaged: {error}") from error
    raise WrongUse(
        f"{type(photo).__name__} is no photo: give a path, the bytes of a file, a PIL image, "
        f"or a numpy array of {_ARRAY}"
    )


class Classifier(PhotoClassifier):
    """A model file that is loaded and ready to classify.

    Threads may share it: they decode side by side and take turns at the network. With a Classifier
    for each thread the networks run side by side too.
    """

    def __init__(self, file: model_file.ModelFile, threads: int = 1) -> None:
        """Load the model of `file`; raise BadData if model and contract disagree."""
        self.file = file
        self.contract = file.contract
        self.model = Model(file.flatbuffer, threads)
        _check(self.model, file.contract.input, len(file.contract.labels))

    @classmethod
    def open(cls, path: str | Path, threads: int = 1) -> "Classifier":
        """Open the .tflite file at `path`, written by `retrain convert`."""
        path = Path(path)
        with naming(path):
            return cls(model_file.read(path), threads)

    def prepare(self, image: Image.Image) -> npt.NDArray[Any]:
        """Return uint8 or float32 (1, height, width, 3), as the model takes it."""
        pixels = to_pixels(image, self.contract.input)
        if self.model.input_dtype == np.float32:
            return normalise(pixels, self.contract.input)
        return pixels

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities for a model's input.

        Raises BadData if the model's output is anything else.
        """
        scores = self.model(tensor)
        if scores.shape != (len(self.contract.labels),) or not np.isfinite(scores).all():
            raise BadData(f"the model gives no scores: {scores.shape} numbers, or some are none")
        return scores


def _check(model: Model, spec: InputSpec, classes: int) -> None:
    """Raise BadData if the model's input and output are not what its contract says."""
    shape = (1, spec.height, spec.width, 3)
    if model.input_shape != shape:
        raise BadData(f"the model's input is {model.input_shape}, its contract says {shape}")
    if model.output_width != classes:
        outputs = with_noun(model.output_width, "output")
        raise BadData(f"the model has {outputs}, its contract {with_noun(classes, 'label')}")
    if model.input_dtype not in (np.uint8, np.float32):
        raise BadData(f"the model's input is {model.input_dtype}, not uint8 or float32")
    scale, zero_point = model.input_quantization
    expected = (np.float32(1 / spec.std), spec.mean)
    if model.input_dtype == np.uint8 and (np.float32(scale), zero_point) != expected:
        raise BadData(
            f"the model's input has scale and zero point {model.input_quantization}, "
            f"its contract says {(1 / spec.std, spec.mean)}"
        )
