"""Read a Keras weights file without running anything that is in it."""

import io
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from deploy.errors import BadData
from retrain.backbones.network import Weights

SUFFIXES = (".weights.h5", ".h5", ".keras")
_LIMIT = 2 * 1000**3
"""Bytes; the largest network here has 94 million."""
_ARCHIVED = "model.weights.h5"
_SMALL = 64 * 1000**2
_MAX_RATIO = 100
"""Bytes that a byte of a file may unpack to, where that is more than `_SMALL`."""


def read_weights(path: Path) -> Weights:
    """Return the tensors of the HDF5 file, or .keras archive, at `path`, in order of their names.

    Links out of the file are not followed, and no model is made of it. Raises BadData for another
    kind of file, one of more than 2 GB, and one that is damaged.
    """
    if not path.name.endswith(SUFFIXES):
        raise BadData(f"{path}: not a Keras weights file: its name ends in {', '.join(SUFFIXES)}")
    try:
        if path.stat().st_size > _LIMIT:
            raise BadData(f"{path}: {path.stat().st_size:,} bytes, more than {_LIMIT:,}")
        with ExitStack() as stack:
            stream: Any = stack.enter_context(path.open("rb"))
            if path.suffix == ".keras":
                archive = stack.enter_context(zipfile.ZipFile(stream))
                member = archive.getinfo(_ARCHIVED)
                _require_unpacked(path, member.file_size, member.compress_size)
                stream = io.BytesIO(archive.read(_ARCHIVED))
            return _tensors(stream, path)
    except BadData:
        raise
    except OSError as error:
        reason = error.strerror or "damaged, or not HDF5"
        raise BadData(f"{path}: cannot be read ({reason})") from error
    except Exception as error:  # h5py's and zipfile's own kinds
        raise BadData(f"{path}: damaged, or not a Keras weights file ({error})") from error


def _require_unpacked(path: Path, size: int, packed: int) -> None:
    """Raise BadData for what is too large, or larger than `packed` bytes of weights can be."""
    if size > _LIMIT or size > max(_SMALL, _MAX_RATIO * packed):
        raise BadData(f"{path}: {packed:,} bytes of weights unpack to {size:,}, an archive bomb")


def _tensors(stream: Any, path: Path) -> Weights:
    import h5py

    found: Weights = {}
    with h5py.File(stream, "r") as file:
        tensors: dict[str, Any] = {}
        file.visititems(
            lambda name, item: tensors.update(
                {name: item} if isinstance(item, h5py.Dataset) else {}
            )
        )
        if any(tensor.external or tensor.is_virtual for tensor in tensors.values()):
            raise BadData(f"{path}: it points to other files, which weights do not")
        _require_unpacked(path, sum(each.nbytes for each in tensors.values()), stream.seek(0, 2))
        for name, tensor in sorted(tensors.items()):
            if tensor.dtype.kind in "fiu":
                found[name] = np.asarray(tensor)
    if not found:
        raise BadData(f"{path}: it holds no weights")
    return found
