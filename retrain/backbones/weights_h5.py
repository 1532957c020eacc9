"""Read the tensors of a Keras weights file; run nothing that is in it."""

import io
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from deploy.errors import BadData
from retrain.backbones.network import Weights

SUFFIXES = (".weights.h5", ".h5", ".keras")
_MAX_BYTES = 2 * 1000**3
"""The weights of the largest network here have 94 million bytes."""
_MEMBER = "model.weights.h5"
_MAX_SMALL_BYTES = 64 * 1000**2
_MAX_EXPANSION = 100
"""Bytes that one byte of a file may unpack to, in a file of more than `_MAX_SMALL_BYTES`."""


def read_weights(path: Path) -> Weights:
    """Return the tensors of the HDF5 file, or .keras archive, at `path`, in order of their names.

    No model is made of it. Raises BadData for another kind of file, one of more than 2 GB, one that
    is damaged, and one with links, which Keras would follow out of the file.
    """
    if not path.name.endswith(SUFFIXES):
        raise BadData(f"{path}: not a Keras weights file: its name ends in {', '.join(SUFFIXES)}")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadData(f"{path}: {path.stat().st_size:,} bytes, more than {_MAX_BYTES:,}")
        with ExitStack() as stack:
            stream: Any = stack.enter_context(path.open("rb"))
            if path.suffix == ".keras":
                archive = stack.enter_context(zipfile.ZipFile(stream))
                member = archive.getinfo(_MEMBER)
                _require_plausible_size(path, member.file_size, member.compress_size)
                stream = io.BytesIO(archive.read(_MEMBER))
            return _tensors(stream, path)
    except BadData:
        raise
    except OSError as error:
        reason = error.strerror or "damaged, or not HDF5"
        raise BadData(f"{path}: cannot be read ({reason})") from error
    except Exception as error:  # h5py's and zipfile's own kinds
        raise BadData(f"{path}: damaged, or not a Keras weights file ({error})") from error


def _require_plausible_size(path: Path, size: int, packed: int) -> None:
    """Raise BadData if `size` bytes are too many, or too many for `packed` bytes of a file."""
    if size > _MAX_BYTES or size > max(_MAX_SMALL_BYTES, _MAX_EXPANSION * packed):
        raise BadData(f"{path}: {packed:,} bytes of weights unpack to {size:,}, an archive bomb")


def _tensors(stream: Any, path: Path) -> Weights:
    import h5py

    weights: Weights = {}
    with h5py.File(stream, "r") as file:
        tensors: dict[str, Any] = {}
        links: list[Any] = []
        file.visititems(
            lambda name, item: tensors.update(
                {name: item} if isinstance(item, h5py.Dataset) else {}
            )
        )
        file.visititems_links(lambda _, link: links.append(link))
        if any(tensor.external or tensor.is_virtual for tensor in tensors.values()) or not all(
            isinstance(link, h5py.HardLink) for link in links
        ):
            raise BadData(f"{path}: it has links or points to other files, which weights do not")
        _require_plausible_size(
            path, sum(tensor.nbytes for tensor in tensors.values()), stream.seek(0, 2)
        )
        for name, tensor in sorted(tensors.items()):
            if tensor.dtype.kind in "fiu":
                weights[name] = np.asarray(tensor)
    if not weights:
        raise BadData(f"{path}: it holds no weights")
    return weights
