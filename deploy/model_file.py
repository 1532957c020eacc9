"""Read and write a .tflite file that carries labels, contract and goldens behind the flatbuffer.

They are in a zip, as the associated files of TFLite metadata are
(https://www.tensorflow.org/lite/models/convert/metadata): runtimes read the flatbuffer at the
front and ignore the zip; `unzip` reads the zip and ignores the flatbuffer.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import goldens, untrusted_files, zip_members
from deploy.contract import Contract, read_labels, write_labels
from deploy.errors import BadData
from deploy.goldens import Golden
from deploy.untrusted_files import MAX_MODEL_BYTES
from deploy.zip_members import Members

_MODEL, _CONTRACT, _LABELS, _SUMS = "model", "contract.json", "labels.txt", "SHA256SUMS"
_GOLDENS = "goldens.json"
REQUIRED_MEMBERS = frozenset({_CONTRACT, _SUMS})
"""Files in the zip of every .tflite file that `pack` writes."""


@dataclass(frozen=True)
class ModelFile:
    """The content of a .tflite file whose digests were all checked.

    `tolerance` is the largest difference of a golden's score that any runtime may show.
    """

    flatbuffer: bytes
    contract: Contract
    goldens: tuple[Golden, ...] = ()
    tolerance: float = 0.0


def pack(
    flatbuffer: bytes,
    contract: Contract,
    golden_photos: Sequence[Golden] = (),
    tolerance: float = 0.0,
) -> bytes:
    """Return the bytes of a .tflite file that carries labels, contract, goldens and digests."""
    parts = {
        _CONTRACT: contract.to_json().encode(),
        _LABELS: write_labels(contract.labels).encode(),
    }
    if golden_photos:
        parts[_GOLDENS] = goldens.to_json(golden_photos, tolerance).encode()
        parts |= {goldens.name(i): golden.png for i, golden in enumerate(golden_photos)}
    sums = {_MODEL: flatbuffer, **parts}
    parts[_SUMS] = "".join(f"{_sha256(data)}  {name}\n" for name, data in sums.items()).encode()
    return zip_members.append(flatbuffer, parts)


def read(path: Path) -> ModelFile:
    """Return the content of the .tflite file at `path`.

    Raises BadData for a file that is missing, damaged anywhere, or not written by `pack`: a
    runtime may crash on damaged bytes, so it gets only bytes whose digest is right.
    """
    content = read_bytes(path)
    with untrusted_files.naming(path):
        return unpack(content)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of the .tflite file at `path`; raise BadData if it cannot be read."""
    try:
        return untrusted_files.read(path, MAX_MODEL_BYTES)
    except OSError as error:
        raise BadData(
            f"{path}: cannot be read ({error.strerror}): `retrain convert` makes such a file"
        ) from error


def unpack(content: bytes) -> ModelFile:
    """Return the content of the bytes that `pack` returned; raise BadData for others."""
    with untrusted_files.damaged("damaged, or not made by `retrain convert`", "copy it again"):
        members = Members(content)
        lines = members.read(_SUMS).decode("ascii").splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        parts = {name: members.read(name) for name in {_CONTRACT, _LABELS, *sums} - {_MODEL}}
        parts[_MODEL] = content[: members.end]
        damaged = [name for name, data in parts.items() if sums[name] != _sha256(data)]
    if damaged:
        raise BadData(f"damaged ({', '.join(damaged)}): copy it again")
    contract = Contract.from_json(parts[_CONTRACT])
    if contract.labels != read_labels(parts[_LABELS].decode(errors="replace")):
        raise BadData("labels.txt and contract.json inside it disagree")
    if _GOLDENS not in parts:
        return ModelFile(parts[_MODEL], contract)
    golden_photos, tolerance = goldens.from_json(
        parts[_GOLDENS], parts.__getitem__, contract.labels
    )
    return ModelFile(parts[_MODEL], contract, golden_photos, tolerance)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
