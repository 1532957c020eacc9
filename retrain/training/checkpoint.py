"""Write and read checkpoints, from which a run that was killed resumes."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deploy import files
from deploy.errors import BadData
from deploy.untrusted_files import damaged, read
from retrain.data.photo_folder import Photo
from retrain.fingerprint import fingerprint
from retrain.settings.training import TrainSettings
from retrain.training.head import Head

FORMAT_VERSION = 1
MAX_CHECKPOINT_BYTES = 2 * 1024**3

_DIGEST_BYTES = 32
_ARRAYS = ("weights", "bias", "best_weights", "best_bias")
_MEMBERS = ("key", "step", *_ARRAYS, "best_cross_entropy", "rounds_since")
_SCALAR_KINDS = {"key": "U", "step": "iu", "best_cross_entropy": "f", "rounds_since": "iu"}
"""The numpy kinds that each member which is no array may have."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a round, complete enough to resume as if it had not stopped.

    `step` counts the steps trained. `head` is the head in training, on bottlenecks as the
    optimizer standardizes them. `best` is the head with the lowest validation cross entropy,
    `best_cross_entropy` in nats, on bottlenecks as they are; `rounds_since_best` counts the rounds
    after it.
    """

    step: int
    head: Head
    best: Head
    best_cross_entropy: float
    rounds_since_best: int

    def to_bytes(self, key: str) -> bytes:
        """Return an .npz file followed by its SHA-256; `key` identifies the run."""
        content = io.BytesIO()
        np.savez(
            content,
            key=key,
            step=self.step,
            weights=self.head.weights,
            bias=self.head.bias,
            best_weights=self.best.weights,
            best_bias=self.best.bias,
            best_cross_entropy=self.best_cross_entropy,
            rounds_since=self.rounds_since_best,
        )
        return content.getvalue() + hashlib.sha256(content.getvalue()).digest()

    @classmethod
    def from_bytes(cls, content: bytes) -> tuple[str, "Checkpoint"]:
        """Return the key and the checkpoint that `to_bytes` wrote; raise ValueError for others.

        Members with other names are ignored. A file whose `min_reader` is above FORMAT_VERSION is
        refused, and so is one whose arrays unpack to more than the file's size.
        """
        content, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("not a checkpoint, or damaged")
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            if sum(member.file_size for member in members.zip.infolist()) > len(content):
                raise ValueError("its arrays are larger than the file")
            min_reader = members["min_reader"] if "min_reader" in members.files else np.int64(1)
            if min_reader.dtype.kind not in "iu" or min_reader.shape:
                raise ValueError("min_reader is not a whole number")
            if min_reader > FORMAT_VERSION:
                raise ValueError(
                    f"it needs a reader of version {min_reader}, and this program reads version "
                    f"{FORMAT_VERSION}: install a newer version of retrain-tflite"
                )
            if not set(_MEMBERS) <= set(members.files):
                raise ValueError("a checkpoint of another version")
            values = {name: members[name] for name in _MEMBERS}
        for name, kinds in _SCALAR_KINDS.items():
            if values[name].dtype.kind not in kinds or values[name].shape:
                raise ValueError(f"{name} has another type")
        weights, bias, best_weights, best_bias = (values[name] for name in _ARRAYS)
        if not (
            weights.ndim == 2
            and weights.shape == best_weights.shape
            and weights.shape[1:] == bias.shape == best_bias.shape
            and all(values[name].dtype == np.float32 for name in _ARRAYS)
        ):
            raise ValueError("its arrays do not fit each other")
        return str(values["key"]), cls(
            int(values["step"]),
            Head(weights, bias),
            Head(best_weights, best_bias),
            float(values["best_cross_entropy"]),
            int(values["rounds_since"]),
        )


def run_key(
    settings: TrainSettings,
    backbone_fingerprint: str,
    photos: Sequence[Photo],
    splits: Sequence[str],
) -> str:
    """Return the key that identifies a run: a digest of settings, backbone, photos and splits."""
    values = (
        asdict(settings.head),
        settings.distortion.identity,
        settings.views,
        backbone_fingerprint,
    )
    lines = (
        photo.digest + f"{split} {photo.label}\n".encode()
        for photo, split in zip(photos, splits, strict=True)
    )
    return fingerprint(values, lines)


def write_checkpoint(path: Path, checkpoint: Checkpoint, key: str) -> None:
    """Write the checkpoint of the run `key`, whole or not at all."""
    files.write(path, checkpoint.to_bytes(key))


def read_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint at `path`, None if there is none.

    Raises BadData for a damaged file and for a checkpoint of a run with another key.
    """
    remedy = "leave out `resume` to train anew"
    try:
        with damaged(f"{path}: cannot be read", remedy):
            file_key, checkpoint = Checkpoint.from_bytes(read(path, MAX_CHECKPOINT_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror}): {remedy}") from error
    if file_key != key:
        raise BadData(f"{path}: a checkpoint of other settings or photos: {remedy}")
    return checkpoint
