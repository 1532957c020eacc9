"""Read the tensors of a PyTorch weights file without PyTorch; run nothing that is in it.

The legacy format (torch.save before 1.6): five pickles (magic number, protocol, system, the
state dict, the storage keys), then each storage as its element count (int64) and raw values.
"""

import collections
import hashlib
import pickle
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from retrain.backbones.network import Weights

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    dtype: np.dtype[Any]
    key: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Reader(pickle.Unpickler):
    """Builds tensors and ordered dicts; every other name in a pickle is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            )
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, count, _ = pid
        return _Storage(dtype, key, count)


def read_weights(path: Path, sha256: str) -> Weights:
    """Return the tensors of the file at `path`, whose digest must be `sha256` (hexadecimal).

    Raises BadData for another digest, or for content that is anything but tensors.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != sha256:
                raise BadData(
                    f"{path}: SHA-256 {digest} instead of {sha256}: install its package again"
                )
            stream.seek(0)
            return _read(stream)
    except (BadData, OSError):
        raise
    except Exception as error:  # a damaged pickle raises any kind
        raise BadData(f"{path}: not a file of tensors ({error})") from error


def _read(stream: IO[bytes]) -> Weights:
    if _load(stream) != _MAGIC:
        raise ValueError("no magic number")
    _load(stream)
    if not _load(stream)["little_endian"]:
        raise ValueError("big-endian")
    tensors: dict[str, _Tensor] = _load(stream)
    used = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values: dict[str, npt.NDArray[Any]] = {}
    for key in _load(stream):
        (count,) = struct.unpack("<q", stream.read(8))
        storage = used[key]
        if count != storage.length:
            raise ValueError(f"storage {key} has {count} values instead of {storage.length}")
        raw = stream.read(count * storage.dtype.itemsize)
        values[key] = np.frombuffer(raw, storage.dtype, count)
    return {name: _view(values[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _load(stream: IO[bytes]) -> Any:
    return _Reader(stream).load()


def _view(storage: npt.NDArray[Any], tensor: _Tensor) -> npt.NDArray[Any]:
    last = tensor.offset + sum(
        (length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if not all(length > 0 for length in tensor.shape) or min((tensor.offset, *tensor.strides)) < 0:
        raise ValueError("a tensor has no elements, or a negative stride")
    if last >= len(storage):
        raise ValueError("a tensor reaches past its storage")
    steps = [stride * storage.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, steps)
    return np.ascontiguousarray(view)
