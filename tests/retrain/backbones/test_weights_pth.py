"""PyTorch weights read without PyTorch: nothing in the file is run, nothing damaged gets through.

The files are written here as `torch.save` wrote them before 1.6, from the format's description.
"""

import collections
import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from deploy.errors import BadData
from retrain.backbones.network import Weights
from retrain.backbones.weights_pth import read_weights

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}


class FloatStorage:
    """Stands for torch.FloatStorage in a pickle."""


class LongStorage:
    """Stands for torch.LongStorage in a pickle."""


class DoubleStorage:
    """Stands for torch.DoubleStorage in a pickle: a kind that is not read."""


def _rebuild_tensor_v2(*_: Any) -> None:
    """Stand for torch._utils._rebuild_tensor_v2 in a pickle."""


class Storage(NamedTuple):
    """A block of values that tensors look into."""

    kind: type
    key: str
    values: npt.NDArray[Any]


class Tensor:
    """Pickles as a PyTorch tensor does."""

    def __init__(
        self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> None:
        self.arguments: tuple[Any, ...] = (
            storage,
            offset,
            shape,
            strides,
            False,
            collections.OrderedDict(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    """Refers to storages by key, as torch.save does."""

    def persistent_id(self, item: object) -> tuple[Any, ...] | None:
        """Return what stands for a storage in the pickle."""
        if isinstance(item, Storage):
            return ("storage", item.kind, item.key, "cpu", len(item.values), None)
        return None


def dump(folder: Path, value: object) -> bytes:
    """Return the pickle of `value`, with the names that torch's classes have."""
    path = folder / "pickle"
    with path.open("wb") as stream:
        Pickler(stream, protocol=2).dump(value)
    here = f"c{__name__}\n".encode()
    return (
        path.read_bytes()
        .replace(here + b"_rebuild", b"ctorch._utils\n_rebuild")
        .replace(here, b"ctorch\n")
    )


FLOATS = Storage(FloatStorage, "7", np.arange(24, dtype="<f4"))
COUNTS = Storage(LongStorage, "8", np.array([2**40, -1], dtype="<i8"))
STATE = collections.OrderedDict(
    whole=Tensor(FLOATS, 0, (2, 3, 4), (12, 4, 1)),
    transposed=Tensor(FLOATS, 0, (4, 6), (1, 4)),
    part=Tensor(FLOATS, 5, (3, 2), (4, 2)),
    counts=Tensor(COUNTS, 0, (2,), (1,)),
    scalar=Tensor(COUNTS, 1, (), ()),
)


def content(folder: Path, state: object = STATE, system: object = SYSTEM) -> bytes:
    heads = b"".join(dump(folder, item) for item in (MAGIC, PROTOCOL, system, state, ["7", "8"]))
    blocks = (
        struct.pack("<q", len(storage.values)) + storage.values.tobytes()
        for storage in (FLOATS, COUNTS)
    )
    return heads + b"".join(blocks)


def read(folder: Path, data: bytes) -> Weights:
    path = folder / "weights.pth"
    path.write_bytes(data)
    return read_weights(path, hashlib.sha256(data).hexdigest())


def test_tensors_come_back_by_name_whatever_their_strides(tmp_path: Path) -> None:
    tensors = read(tmp_path, content(tmp_path))
    assert list(tensors) == ["whole", "transposed", "part", "counts", "scalar"]
    values = FLOATS.values
    np.testing.assert_array_equal(tensors["whole"], values.reshape(2, 3, 4))
    np.testing.assert_array_equal(tensors["transposed"], values.reshape(6, 4).T)
    np.testing.assert_array_equal(tensors["part"], [[5, 7], [9, 11], [13, 15]])
    np.testing.assert_array_equal(tensors["counts"], [2**40, -1])
    assert tensors["scalar"] == -1
    assert [tensors[name].dtype for name in ("whole", "counts")] == [np.float32, np.int64]


def test_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content(tmp_path))
    with pytest.raises(BadData, match=f"{path}: SHA-256 .* instead of {'0' * 64}"):
        read_weights(path, "0" * 64)


@pytest.mark.parametrize("code", ["cposix\nsystem\n", "cbuiltins\neval\n", "ctorch\nload\n"])
@pytest.mark.parametrize("place", range(5))
def test_a_pickle_that_asks_for_code_is_refused_and_not_run(
    tmp_path: Path, code: str, place: int
) -> None:
    ran = tmp_path / "ran"
    argument = (
        f"__import__('pathlib').Path({str(ran)!r}).touch()" if "eval" in code else f"touch {ran}"
    )
    harm = b"\x80\x02" + code.encode() + b"X" + struct.pack("<I", len(argument)) + argument.encode()
    parts = [dump(tmp_path, item) for item in (MAGIC, PROTOCOL, SYSTEM, STATE, ["7", "8"])]
    parts[place] = harm + b"\x85R."
    with pytest.raises(BadData, match="which is not a tensor"):
        read(tmp_path, b"".join(parts))
    assert not ran.exists()


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(FLOATS, 1, (2, 3, 4), (12, 4, 1)),
        Tensor(FLOATS, 24, (1,), (1,)),
        Tensor(FLOATS, 0, (2,), (24,)),
        Tensor(FLOATS, 0, (2**40, 2**40), (2**40, 1)),
    ],
)
def test_a_tensor_past_its_storage_is_refused(tmp_path: Path, tensor: Tensor) -> None:
    with pytest.raises(BadData, match="a tensor reaches past its storage"):
        read(tmp_path, content(tmp_path, {**STATE, "wrong": tensor}))


@pytest.mark.parametrize(
    "wrong",
    [
        Tensor(FLOATS, 23, (2,), (-1,)),
        Tensor(FLOATS, -1, (1,), (1,)),
        Tensor(FLOATS, 0, (0,), (1,)),
        Tensor(FLOATS, 0, (2, 2), (1,)),
        Tensor(Storage(DoubleStorage, "7", FLOATS.values), 0, (2,), (1,)),
        Tensor(Storage(FloatStorage, "7", FLOATS.values[:9]), 0, (2,), (1,)),
        Tensor(Storage(FloatStorage, "9", FLOATS.values), 0, (2,), (1,)),
        1,
    ],
)
def test_what_is_not_a_tensor_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(BadData, match="not a file of tensors"):
        read(tmp_path, content(tmp_path, {**STATE, "wrong": wrong}))


@pytest.mark.parametrize("state", [{"a": STATE["counts"]}, {}, ["a"], None])
def test_what_is_not_a_dict_of_all_tensors_is_refused(tmp_path: Path, state: object) -> None:
    with pytest.raises(BadData, match="not a file of tensors"):
        read(tmp_path, content(tmp_path, state))


@pytest.mark.parametrize("system", [{**SYSTEM, "little_endian": False}, {}, 1])
def test_another_byte_order_is_refused(tmp_path: Path, system: object) -> None:
    with pytest.raises(BadData, match="not a file of tensors"):
        read(tmp_path, content(tmp_path, system=system))


def test_a_cut_file_is_refused_wherever_the_cut(tmp_path: Path) -> None:
    data = content(tmp_path)
    for length in range(len(data)):
        with pytest.raises(BadData, match="not a file of tensors"):
            read(tmp_path, data[:length])


def test_a_damaged_file_gives_tensors_or_is_refused(tmp_path: Path) -> None:
    data = content(tmp_path)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        for place in random.integers(len(data), size=2):
            damaged[place] ^= 1 << int(random.integers(8))
        try:
            tensors = read(tmp_path, bytes(damaged))
        except BadData:
            refused += 1
        else:
            assert all(isinstance(values, np.ndarray) for values in tensors.values())
    assert 200 < refused < 600
