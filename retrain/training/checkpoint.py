"""Write and read checkpoints, from which a run that was killed resumes."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from deploy import files
from deploy.errors import BadData
from deploy.untrusted_files import damaged, read
from retrain.data import split
from retrain.data.digest_index import to_list
from retrain.data.photo import Photo
from retrain.data.photo_table import SPLIT_OF_CODE, PhotoTable
from retrain.fingerprint import fingerprint
from retrain.settings.training import FineTuneSettings, TrainSettings
from retrain.training import curves
from retrain.training.curves import CurvePoint
from retrain.training.head import Head

FORMAT_VERSION = 1
MAX_CHECKPOINT_BYTES = 2 * 1024**3

_DIGEST_BYTES = 32
_BLOCK = 4096
"""Photos that are hashed at a time."""
_ARRAYS = ("weights", "bias", "best_weights", "best_bias")
_NUMBER_KINDS = {"step": "iu", "best_cross_entropy": "f", "rounds_since": "iu"}
"""The numpy kinds that each member which is a number may have."""

Array = npt.NDArray[Any]
State = TypeVar("State")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a round, complete enough to resume as if it had not stopped.

    `step` counts the steps trained. `head` is the head in training, on bottlenecks as the
    optimizer standardizes them. `best` is the head with the lowest validation cross entropy,
    `best_cross_entropy` in nats, on bottlenecks as they are; `rounds_since_best` counts the rounds
    after it. `curve` has the scores of the steps.
    """

    step: int
    head: Head
    best: Head
    best_cross_entropy: float
    rounds_since_best: int
    curve: tuple[CurvePoint, ...] = ()

    def to_bytes(self, key: str) -> bytes:
        """Return an .npz file followed by its SHA-256; `key` identifies the run."""
        return pack(
            key,
            {
                "step": self.step,
                "weights": self.head.weights,
                "bias": self.head.bias,
                "best_weights": self.best.weights,
                "best_bias": self.best.bias,
                "best_cross_entropy": self.best_cross_entropy,
                "rounds_since": self.rounds_since_best,
                curves.MEMBER: curves.to_array(self.curve),
            },
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> tuple[str, "Checkpoint"]:
        """Return the key and the checkpoint that `to_bytes` wrote; raise ValueError for others."""
        key, members = unpack(content)
        return key, cls.from_members(members)

    @classmethod
    def from_members(cls, members: Mapping[str, Array]) -> "Checkpoint":
        """Return the checkpoint of these members; raise ValueError for others."""
        if not {*_ARRAYS, *_NUMBER_KINDS} <= set(members):
            raise ValueError("a checkpoint of another version")
        weights, bias, best_weights, best_bias = (members[name] for name in _ARRAYS)
        if not (
            weights.ndim == 2
            and weights.shape == best_weights.shape
            and weights.shape[1:] == bias.shape == best_bias.shape
            and all(members[name].dtype == np.float32 for name in _ARRAYS)
        ):
            raise ValueError("its arrays do not fit each other")
        step, cross_entropy, rounds = (
            number(members, name, kinds) for name, kinds in _NUMBER_KINDS.items()
        )
        return cls(
            int(step),
            Head(weights, bias),
            Head(best_weights, best_bias),
            cross_entropy,
            int(rounds),
            curves.from_members(members),
        )


def pack(key: str, members: Mapping[str, npt.ArrayLike]) -> bytes:
    """Return an .npz file of `members` and the run's `key`, followed by its SHA-256."""
    content = io.BytesIO()
    np.savez(content, key=key, **members)  # type: ignore[arg-type]
    return content.getvalue() + hashlib.sha256(content.getvalue()).digest()


def unpack(content: bytes) -> tuple[str, dict[str, Array]]:
    """Return the key and the members that `pack` wrote; raise ValueError for others.

    A file whose `min_reader` is above FORMAT_VERSION is refused, and so is one whose arrays unpack
    to more than the file's size.
    """
    content, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("not a checkpoint, or damaged")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        if sum(member.file_size for member in archive.zip.infolist()) > len(content):
            raise ValueError("its arrays are larger than the file")
        members = {name: archive[name] for name in archive.files}
    min_reader = number(members, "min_reader", "iu") if "min_reader" in members else 1
    if min_reader > FORMAT_VERSION:
        raise ValueError(
            f"it needs a reader of version {min_reader:g}, and this program reads version "
            f"{FORMAT_VERSION}: install a newer version of retrain-tflite"
        )
    key = members.pop("key", np.array(0))
    if key.dtype.kind != "U" or key.shape:
        raise ValueError("key has another type")
    return str(key), members


def number(members: Mapping[str, Array], name: str, kinds: str) -> float:
    """Return the member `name`; raise ValueError unless it is a number of these numpy kinds."""
    value = members.get(name)
    if value is None or value.dtype.kind not in kinds or value.shape:
        raise ValueError(f"{name} has another type")
    return float(value)


def run_key(
    settings: TrainSettings,
    backbone_fingerprint: str,
    photos: Sequence[Photo],
    splits: Sequence[str],
    fine_tuning: FineTuneSettings | None = None,
) -> str:
    """Return the key that identifies a run: a digest of settings, backbone, photos and splits.

    The run is that of the head, or with `fine_tuning` that of the last blocks.
    """
    values: list[Any] = [
        asdict(settings.head),
        settings.distortion.identity,
        settings.views,
        backbone_fingerprint,
    ]
    if fine_tuning:
        photo_count = splits.count(split.TRAINING)
        known = replace(
            fine_tuning,
            cut=None,  # it is part of the trunk's fingerprint
            epochs=fine_tuning.epochs_for(photo_count),
            views=fine_tuning.views_for(photo_count),
            average=1,  # a run resumes with a higher one: the networks trained already count
        )
        values.append({**asdict(known), "distortion": known.distortion.identity})
    return fingerprint(values, _lines(PhotoTable.of(photos), split.Splits.of(splits)))


def _lines(photos: PhotoTable, splits: split.Splits) -> Iterator[bytes]:
    """Yield the digest, split and label of each photo, a line each, some thousands at a time."""
    ends = [
        [f"{name} {label}\n".encode() for label in photos.label_names] for name in SPLIT_OF_CODE
    ]
    for first in range(0, len(photos), _BLOCK):
        block = slice(first, first + _BLOCK)
        columns = (
            to_list(photos.digests[block]),
            splits.codes[block].tolist(),
            photos.label_numbers[block].tolist(),
        )
        yield b"".join(
            digest + ends[code][label] for digest, code, label in zip(*columns, strict=True)
        )


def write_checkpoint(path: Path, checkpoint: Checkpoint, key: str) -> None:
    """Write the checkpoint of the run `key`, whole or not at all."""
    files.write(path, checkpoint.to_bytes(key))


def read_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint at `path`, None if there is none.

    Raises BadData for a damaged file and for a checkpoint of a run with another key.
    """
    return read_members(path, key, Checkpoint.from_members)


def read_members(
    path: Path, key: str, parse: Callable[[Mapping[str, Array]], State]
) -> State | None:
    """Return what `parse` makes of the members of the checkpoint at `path`, None without a file.

    Raises BadData for a damaged file and for a checkpoint of a run with another key. `parse` raises
    ValueError for members that are not its own.
    """
    remedy = "leave out `resume` to train anew"
    try:
        with damaged(f"{path}: cannot be read", remedy):
            file_key, members = unpack(read(path, MAX_CHECKPOINT_BYTES))
            state = parse(members)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror}): {remedy}") from error
    if file_key != key:
        raise BadData(f"{path}: a checkpoint of other settings or photos: {remedy}")
    return state
