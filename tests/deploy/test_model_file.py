"""The parts inside a .tflite file: found again whole, or refused."""

import hashlib
import io
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy import model_file
from deploy.contract import Contract, write_labels
from deploy.errors import BadData
from deploy.goldens import Golden
from deploy.model_file import ModelFile, pack, unpack
from tests.helpers.deploy_fixtures import CONTRACT, LABELS

FLATBUFFER = random.Random(0).randbytes(500)  # noqa: S311
PACKED = pack(FLATBUFFER, CONTRACT)
GOLDENS = tuple(
    Golden(f"photo {i}".encode(), f"{i}" * 64, LABELS[i], tuple(np.eye(4)[i].tolist()))
    for i in range(2)
)
WITH_GOLDENS = pack(FLATBUFFER, CONTRACT, GOLDENS, 0.07)
Read = Callable[[bytes], ModelFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return what reads bytes as a .tflite file."""
    path = tmp_path / "model.tflite"

    def write_and_read(content: bytes) -> ModelFile:
        path.write_bytes(content)
        return model_file.read(path)

    return write_and_read


def handmade(contract: str, labels: bytes, left_out: str = "") -> bytes:
    """Return a .tflite file whose digests, but for that of `left_out`, are there and right."""
    parts = {"contract.json": contract.encode(), "labels.txt": labels}
    sums = {"model": FLATBUFFER, **parts}
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in sums.items()
        if name != left_out
    ]
    stream = io.BytesIO(FLATBUFFER)
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, data in {**parts, "SHA256SUMS": "".join(lines).encode()}.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    "labels", [LABELS, ("a, b", 'say "yes"', "line\u2028separator", "next\x85line"), ("one",)]
)
def test_what_is_packed_is_read(read: Read, labels: tuple[str, ...]) -> None:
    contract = replace(CONTRACT, labels=labels)
    assert read(pack(FLATBUFFER, contract)) == ModelFile(FLATBUFFER, contract)


def test_goldens_and_their_tolerance_are_read(read: Read) -> None:
    whole = read(WITH_GOLDENS)
    assert whole == ModelFile(FLATBUFFER, CONTRACT, GOLDENS, 0.07)


def test_every_part_has_its_digest() -> None:
    with zipfile.ZipFile(io.BytesIO(WITH_GOLDENS)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    lines = parts.pop("SHA256SUMS").decode().splitlines()
    assert set(parts) > {"goldens.json", "golden-0.png", "golden-1.png"}
    parts["model"] = FLATBUFFER
    assert sorted(lines) == sorted(
        f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in parts.items()
    )


@pytest.mark.parametrize("part", [b"photo 1", b'"tolerance": 0.07'])
def test_a_damaged_golden_is_noticed(read: Read, part: bytes) -> None:
    at = WITH_GOLDENS.index(part) + len(part) - 1
    with pytest.raises(BadData, match="damaged"):
        read(WITH_GOLDENS[:at] + b"8" + WITH_GOLDENS[at + 1 :])


def test_any_zip_tool_shows_labels_and_contract() -> None:
    with zipfile.ZipFile(io.BytesIO(PACKED)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["contract.json", "labels.txt", "SHA256SUMS"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("labels.txt").decode() == "red\ngrün, hell\nblue\ngrey\n"
        assert Contract.from_json(archive.read("contract.json")) == CONTRACT
        digest = hashlib.sha256(FLATBUFFER).hexdigest()
        assert f"{digest}  model\n" in archive.read("SHA256SUMS").decode()


def test_the_flatbuffer_stays_at_the_front() -> None:
    assert PACKED.startswith(FLATBUFFER)
    assert PACKED[len(FLATBUFFER) :].startswith(b"PK\x03\x04")


def test_the_same_parts_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert pack(FLATBUFFER, CONTRACT) == PACKED


def test_a_handmade_file_is_read_too(read: Read) -> None:
    content = handmade(CONTRACT.to_json(), "red\ngrün, hell\nblue\ngrey\n".encode())
    assert read(content) == ModelFile(FLATBUFFER, CONTRACT)


@pytest.mark.parametrize("left_out", ["model", "contract.json", "labels.txt"])
def test_a_part_without_a_digest_is_refused(read: Read, left_out: str) -> None:
    labels = write_labels(LABELS).encode()
    with pytest.raises(BadData, match=r"model\.tflite: damaged"):
        read(handmade(CONTRACT.to_json(), labels, left_out))


@pytest.mark.parametrize("labels", [b"gr\xfcn\n", "grün, hell\nred\nblue\ngrey\n".encode(), b""])
def test_labels_that_disagree_with_the_contract_are_refused(read: Read, labels: bytes) -> None:
    with pytest.raises(BadData, match=r"model\.tflite: labels\.txt and contract\.json .* disagree"):
        read(handmade(CONTRACT.to_json(), labels))


def test_a_contract_without_fields_is_refused_with_the_name_of_the_file(read: Read) -> None:
    with pytest.raises(BadData, match=r"model\.tflite: the contract: .* is missing"):
        read(handmade("{}", b""))


def test_a_changed_byte_anywhere_is_noticed_or_changes_nothing() -> None:
    whole, unnoticed = unpack(PACKED), []
    masks = random.Random(0)  # noqa: S311
    for position in range(len(PACKED)):
        damaged = bytearray(PACKED)
        damaged[position] ^= masks.randrange(1, 256)
        with suppress(BadData):
            assert unpack(bytes(damaged)) == whole
            unnoticed.append(position)
    # What may change unseen: the zip's dates, versions and attributes.
    assert unnoticed[0] > len(FLATBUFFER)
    assert len(unnoticed) < 0.15 * len(PACKED)


@pytest.mark.parametrize("method", [8, 12, 14, 99])
@pytest.mark.parametrize("entry", [0, 1, 2])
def test_a_damaged_compression_method_is_noticed(read: Read, method: int, entry: int) -> None:
    """Each makes another decompressor choke on plain text, with an error of its own."""
    damaged, at = bytearray(PACKED), 0
    for _ in range(entry + 1):
        at = PACKED.index(b"PK\x01\x02", at) + 1
    assert damaged[at + 9] == zipfile.ZIP_STORED
    damaged[at + 9] = method
    with pytest.raises(BadData, match="damaged"):
        read(bytes(damaged))


@pytest.mark.parametrize("offset", [26, 27, 28, 29])
def test_a_damaged_length_is_noticed(read: Read, offset: int) -> None:
    """The local header ends with the lengths of the name and of what follows it."""
    damaged = bytearray(PACKED)
    damaged[len(FLATBUFFER) + offset] ^= 0x40
    with pytest.raises(BadData, match="damaged"):
        read(bytes(damaged))


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(PACKED)):
        with pytest.raises(BadData, match="damaged"):
            unpack(PACKED[:length])


def test_bytes_added_in_front_are_noticed(read: Read) -> None:
    with pytest.raises(BadData, match="damaged"):
        read(b"\0" + PACKED)


@pytest.mark.parametrize("content", [b"", FLATBUFFER, b"PK\x05\x06" + bytes(18)])
def test_a_file_without_parts_tells_who_makes_one(read: Read, content: bytes) -> None:
    with pytest.raises(BadData, match=r"not made by `retrain convert` .no labels and contract"):
        read(content)


def test_the_part_that_is_damaged_is_named(read: Read) -> None:
    with pytest.raises(BadData, match=r"damaged \(model\): copy it again"):
        read(b"\0" * 7 + PACKED[7:])


def test_a_missing_file_and_a_folder_are_bad_data(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"none\.tflite: .*No such file.*`retrain convert`"):
        model_file.read(tmp_path / "none.tflite")
    with pytest.raises(BadData, match=r"cannot be read \(Is a directory\)"):
        model_file.read(tmp_path)
