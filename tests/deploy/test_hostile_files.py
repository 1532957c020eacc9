"""Files that somebody made to do harm: refused in words, quickly, and in little memory."""

import hashlib
import io
import json
import random
import struct
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import flatbuffers
import numpy as np
import pytest

from deploy import flatbuffer, goldens, model_file
from deploy.contract import Contract
from deploy.errors import BadData
from deploy.goldens import Golden
from deploy.zip_members import Members
from retrain.tflite.inspection import inspect
from retrain.tflite.model import read_model
from retrain.training.checkpoint import Checkpoint
from tests.helpers.deploy_fixtures import CONTRACT, LABELS, networks

VALID = model_file.pack(b"flatbuffer" * 10, CONTRACT)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a .tflite file whose digests are right, with these files besides."""
    parts = {"contract.json": CONTRACT.to_json().encode(), "labels.txt": b"x\n", **files}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items())
    stream = io.BytesIO(b"flatbuffer")
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "a", method) as archive:
        for name, data in {**parts, "SHA256SUMS": sums.encode()}.items():
            archive.writestr(name, data)
    return stream.getvalue()


def in_list(content: bytes, offset: int, data: bytes) -> bytes:
    """Return `content` with `data` at this offset of the first entry of the zip's list."""
    at = content.index(b"PK\x01\x02") + offset
    return content[:at] + data + content[at + len(data) :]


def overlapping() -> bytes:
    first = VALID.index(b"PK\x01\x02") + 42
    second = VALID.index(b"PK\x01\x02", first) + 42
    return VALID[:second] + VALID[first : first + 4] + VALID[second + 4 :]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: zipped({"bomb": bytes(7 << 20)}, zipfile.ZIP_DEFLATED), "100 times its size"),
        (lambda: zipped({"big": bytes(9 << 20)}), "9,437,184 bytes, more than 8,388,608"),
        (lambda: zipped({str(i): b"" for i in range(1001)}), "1,004 files in it"),
        (lambda: zipped({"b": bytes(9000)}, zipfile.ZIP_BZIP2), "a method that is not read"),
        (lambda: zipped({"l": bytes(9000)}, zipfile.ZIP_LZMA), "a method that is not read"),
        (lambda: in_list(VALID, 8, b"\x01\x00"), "is encrypted"),
        (lambda: in_list(VALID, 24, struct.pack("<L", 1 << 30)), "67,108,864 bytes"),
        (overlapping, "two files in it share bytes"),
        (lambda: VALID.replace(b"labels.txt", b"SHA256SUMS"), "same name"),
        (lambda: VALID[:-2] + b"\x05\x00hello", "no labels and contract inside"),
        (lambda: VALID[:-22] + b"PK\x06\x07" + bytes(16) + VALID[-22:], "that of a larger zip"),
    ],
)
def test_what_is_stored_in_a_model_has_bounds(make: Callable[[], bytes], words: str) -> None:
    content = make()
    start = time.perf_counter()
    with pytest.raises(BadData, match="damaged") as refused:
        model_file.unpack(content)
    assert words in str(refused.value)
    assert time.perf_counter() - start < 2


def test_a_list_that_lies_about_a_size_does_not_unpack_more() -> None:
    content = zipped({"labels.txt": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    at = content.index(b"labels.txt", content.index(b"PK\x01\x02")) - 22
    lying = content[:at] + struct.pack("<L", 1000) + content[at + 4 :]
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        Members(lying).read("labels.txt")


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(CONTRACT.to_json()), **values})


def changed_input(**values: Any) -> str:
    return changed(input={**json.loads(CONTRACT.to_json())["input"], **values})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"schema_version":' + "[" * 100_000, "nested too deep"),
        (changed(temperature="warm"), "temperature is 'warm'"),
        (changed(temperature=-1), "temperature is -1"),
        (changed(temperature=float("nan")), "temperature is nan"),
        (changed(temperature=10**400), "temperature is 1000"),
        (changed(reject_threshold=True), "reject_threshold is True"),
        (changed(labels=[1, 2]), "labels[0] is 1"),
        (changed(labels=[["red"]]), "labels[0] is ['red']"),
        (changed(labels=None), "labels is None"),
        (changed(backbone=7), "backbone is 7"),
        (changed(schema_version="1"), "schema_version is '1'"),
        (changed(schema_version=0), "schema_version is 0"),
        (changed(input=[]), "input is []"),
        (changed_input(height=True), "height is True"),
        (changed_input(width=1e3), "width is 1000.0"),
        (changed_input(std=5e-324), "std is 5e-324"),
        (changed_input(mean="1"), "mean is '1'"),
        (changed_input(crop=float("inf")), "crop is inf"),
        (CONTRACT.to_json().replace('"mean": 128.0', '"mean": 1e400'), "mean is inf"),
        (CONTRACT.to_json().replace('"red"', r'"\ud800"'), "surrogates not allowed"),
        (CONTRACT.to_json().encode().replace(b"red", b"\xff"), "utf-8"),
        ('{"output": "a", ' + CONTRACT.to_json()[1:], "'output' is there twice"),
        ("null", "not a JSON object"),
        ("", "Expecting value"),
    ],
)
def test_a_contract_that_is_none_is_refused_with_the_field(text: str | bytes, words: str) -> None:
    with pytest.raises(BadData, match=r"the contract(:| cannot be read) .*: copy") as refused:
        Contract.from_json(text)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"tolerance": NaN, "goldens": []}',
        '{"tolerance": "0.1", "goldens": []}',
        '{"tolerance": 0.1, "goldens": {}}',
        '{"tolerance": 0.1, "goldens": [[]]}',
        '{"tolerance": 0.1, "goldens": [{"photo": []}]}',
        '{"tolerance": 1e400, "goldens": []}',
        json.dumps({"tolerance": 0.1, "goldens": [{}] * 300}),
    ],
)
def test_goldens_that_are_none_are_refused(text: str) -> None:
    no_photos: dict[str, bytes] = {}
    with pytest.raises(BadData, match=r"the goldens(:| cannot be read) .*: copy"):
        goldens.from_json(text.encode(), no_photos.__getitem__, LABELS)


def test_damaged_json_never_is_anything_else_than_bad_data() -> None:
    """Seeded: values of the contract and the goldens are swapped for others of any type."""
    draw = random.Random(15)  # noqa: S311
    replacements: list[Any] = [
        None,
        [],
        {},
        True,
        -0.0,
        1e308,
        10**30,
        "",
        "x" * 2000,
        [[[]]],
        {"a": {}},
        -1,
    ]
    golden = Golden(b"", "0" * 64, "red", (1.0, 0.0, 0.0, 0.0))
    whole = [json.loads(CONTRACT.to_json()), json.loads(goldens.to_json([golden], 0.1))]
    refused = 0
    for _ in range(300):
        contract, listed = json.loads(json.dumps(whole))
        inner = draw.choice([contract, contract["input"], listed, listed["goldens"][0]])
        inner[draw.choice(list(inner))] = draw.choice(replacements)
        for read in (
            lambda text=contract: Contract.from_json(json.dumps(text)),
            lambda text=listed: goldens.from_json(json.dumps(text).encode(), lambda _: b"", LABELS),
        ):
            try:  # anything but BadData would be a bug
                read()
            except BadData:
                refused += 1
    # Of the pairs one is as it was, and some replacements are valid.
    assert 150 < refused < 300


def shared(operators: int, inputs: int) -> bytes:
    """Return a model whose operators all are one table, with this many inputs of one tensor."""
    builder = flatbuffers.Builder()
    builder.StartVector(4, inputs, 4)
    for _ in range(inputs):
        builder.PrependInt32(0)
    numbers = builder.EndVector()

    def table(*fields: tuple[int, int]) -> int:
        builder.StartObject(11)
        for slot, offset in fields:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return int(builder.EndObject())

    def vector(item: int, count: int = 1) -> int:
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(item)
        return int(builder.EndVector())

    listed = vector(table((1, numbers)), operators)
    graph = vector(table((0, vector(table())), (3, listed)))
    codes, buffers = vector(table()), vector(table())
    builder.Finish(table((1, codes), (2, graph), (4, buffers)), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("read", [inspect, read_model, flatbuffer.check])
def test_work_on_a_model_whose_parts_are_shared_is_bounded(read: Callable[[bytes], Any]) -> None:
    content = shared(1000, 1000)
    assert len(content) < 9000
    start = time.perf_counter()
    with pytest.raises(BadData, match="shared without end"):
        read(content)
    assert time.perf_counter() - start < 1


def test_a_flatbuffer_with_the_right_digest_is_equal_or_refused() -> None:
    """Seeded; what tflite-runtime 2.14 died of, of every second one, before it was checked."""
    draw = random.Random(15)  # noqa: S311
    valid = networks().uint8
    refused = 0
    for _ in range(300):
        content = bytearray(valid)
        for _ in range(draw.randrange(1, 4)):
            at = 4 * draw.randrange(len(valid) // 4)
            number = draw.choice(
                [0, 1, 100, 2**31 - 1, 2**32 - 4, len(valid), draw.getrandbits(32)]
            )
            struct.pack_into("<I", content, at, number)
        for read in (inspect, read_model, flatbuffer.check):
            refused += 1
            with suppress(BadData):
                read(bytes(content))
                refused -= 1
    assert refused > 300


@pytest.mark.parametrize("places", [{"weights": (9, 3)}, {"bias": (2,)}, {"step": ()}])
def test_a_checkpoint_whose_arrays_do_not_fit_is_refused(places: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "key": "k", "step": 1, "weights": np.zeros((4, 3), np.float32),
        "bias": np.zeros(3, np.float32), "best_weights": np.zeros((4, 3), np.float32),
        "best_bias": np.zeros(3, np.float32), "best_cross_entropy": 1.0, "rounds_since": 0,
    }  # fmt: skip

    def written(save: Callable[..., None], **changes: Any) -> bytes:
        stream = io.BytesIO()
        save(stream, **arrays | changes)
        return stream.getvalue() + hashlib.sha256(stream.getvalue()).digest()

    assert Checkpoint.from_bytes(written(np.savez))[0] == "k"
    ((name, shape),) = places.items()
    wrong = np.zeros(shape or (1 << 20), np.float32)
    content = written(np.savez if shape else np.savez_compressed, **{name: wrong})
    with pytest.raises(ValueError, match=r"do not fit each other|larger than the file"):
        Checkpoint.from_bytes(content)
