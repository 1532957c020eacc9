"""What a .tflite file carries: labels, contract and goldens, as a zip behind the flatbuffer.

The layout is that of TFLite metadata's associated files
(https://www.tensorflow.org/lite/models/convert/metadata): runtimes read the flatbuffer at the
front and never see the zip, `unzip` reads the zip and never sees the flatbuffer.
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import foreign_files, goldens
from deploy.contract import Contract, read_labels, write_labels
from deploy.errors import BadData
from deploy.goldens import Golden
from deploy.zip_members import Members

_MODEL, _CONTRACT, _LABELS, _SUMS = "model", "contract.json", "labels.txt", "SHA256SUMS"
_GOLDENS = "goldens.json"
MARKS = frozenset({_CONTRACT, _SUMS})
"""Files that every .tflite file of ours holds."""
MAX_MODEL = 2 * 1024**3
"""Bytes of a model file: offsets in a flatbuffer reach no further."""


@dataclass(frozen=True)
class ModelFile:
    """The parts of a .tflite file, every digest checked.

    `tolerance` is how far a score of a golden may be, on any runtime, from what it was.
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
    out = io.BytesIO(flatbuffer)
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def read(path: Path) -> ModelFile:
    """Return the parts of the .tflite file at `path`.

    Raises BadData when the file is missing, damaged anywhere, or was not made by `pack`: a
    runtime may crash on damaged bytes, so it only gets those whose digest is right.
    """
    try:
        with foreign_files.naming(path):
            return unpack(foreign_files.read(path, MAX_MODEL))
    except OSError as error:
        raise BadData(
            f"{path}: cannot be read ({error.strerror}): `retrain convert` makes such a file"
        ) from error


def unpack(content: bytes) -> ModelFile:
    """Return the parts of what `pack` made; raise BadData for anything else."""
    with foreign_files.damaged("damaged, or not made by `retrain convert`", "copy it again"):
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
    kept: tuple[Golden, ...] = ()
    tolerance = 0.0
    if _GOLDENS in parts:
        kept, tolerance = goldens.from_json(parts[_GOLDENS], parts.__getitem__, contract.labels)
    return ModelFile(parts[_MODEL], contract, kept, tolerance)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
