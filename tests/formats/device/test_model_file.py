"""A model file of an earlier version opens; one of a later version opens unless it forbids that."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import model_file
from deploy.check_goldens import check_goldens
from deploy.classifier import Classifier
from deploy.errors import BadData

BEFORE = Path(__file__).parent / "before_issue_16" / "model.tflite"


def rewritten(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """Return the file with its contract and goldens changed in JSON, and with right digests."""
    content = BEFORE.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    contract, goldens = json.loads(parts["contract.json"]), json.loads(parts["goldens.json"])
    change(contract, goldens)
    parts["contract.json"] = json.dumps(contract).encode()
    parts["goldens.json"] = json.dumps(goldens).encode()
    flatbuffer = model_file.unpack(content).flatbuffer
    sums = {"model": flatbuffer, **{k: v for k, v in parts.items() if k != "SHA256SUMS"}}
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sums.items()]
    parts["SHA256SUMS"] = "".join(lines).encode()
    stream = io.BytesIO(flatbuffer)
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_the_file_opens_and_computes_what_it_did() -> None:
    classifier = Classifier.open(BEFORE)
    contract = classifier.contract
    assert (contract.temperature, contract.reject_threshold) == (1.25, 0.25)
    assert contract.labels == ("red", "grün, hell", "blue", "grey")
    assert len(classifier.file.goldens) == 4
    assert check_goldens(classifier) == []


def test_today_the_same_bytes_are_written() -> None:
    file = model_file.read(BEFORE)
    packed = model_file.pack(file.flatbuffer, file.contract, file.goldens, file.tolerance)
    assert packed == BEFORE.read_bytes()


def test_a_later_file_with_keys_of_its_own_opens() -> None:
    def change(contract: dict[str, Any], goldens: dict[str, Any]) -> None:
        contract.update(schema_version=7, min_reader=1, later={"a": [1]})
        contract["input"]["later"] = None
        goldens.update(schema=7, later="x")
        goldens["goldens"][0]["later"] = 1

    assert model_file.unpack(rewritten(change)) == model_file.read(BEFORE)


@pytest.mark.parametrize("place", ["contract", "goldens"])
def test_a_later_file_that_needs_a_newer_reader_is_refused(place: str) -> None:
    def change(contract: dict[str, Any], goldens: dict[str, Any]) -> None:
        (contract if place == "contract" else goldens).update(schema_version=2, min_reader=2)

    with pytest.raises(BadData, match=rf"the {place}: .* version 2.*install a newer version"):
        model_file.unpack(rewritten(change))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"temperature": "warm"}, "temperature is 'warm', not a number: copy"),
        ({"min_reader": "1"}, "min_reader is '1', not a whole"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_its_name(
    values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadData, match=f"the contract: {problem}"):
        model_file.unpack(rewritten(lambda contract, _goldens: contract.update(values)))
