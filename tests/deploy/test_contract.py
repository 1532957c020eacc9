"""The contract and the labels file: what is written is read, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.contract import (
    Contract,
    InputSpec,
    check_label,
    check_labels,
    read_labels,
    read_labels_file,
    write_labels,
)
from deploy.errors import BadData
from tests.helpers.deploy_fixtures import CONTRACT, SPEC

TEXTS = (
    "backbone",
    "weights_sha256",
    "dataset_sha256",
    "graph_sha256",
    "tool_version",
    "output",
    "recipe",
)
"""The fields of a contract that are text, beside the labels."""
LABELS = [
    ("cat", "dog"),
    ("a, b", 'say "yes"', "it's", "back\\slash", "tab\there", " spaces "),
    ("grün", "猫", "🦉", "e\u0301", "\ufeffmark"),
    ("line\u2028separator", "next\x85line", "form\x0cfeed", "vertical\x0btab", "nul\x00"),
    ("", "the empty one is first"),
    ("1", "2.5", "null"),
]


def changed(**values: Any) -> str:
    """Return the JSON of a good contract with some values changed."""
    return json.dumps({**json.loads(CONTRACT.to_json()), **values})


def changed_input(**values: Any) -> str:
    return changed(input={**json.loads(CONTRACT.to_json())["input"], **values})


@pytest.mark.parametrize("labels", LABELS)
def test_a_contract_survives_its_json(labels: tuple[str, ...]) -> None:
    contract = replace(CONTRACT, labels=labels, temperature=1.5, reject_threshold=0.25)
    assert Contract.from_json(contract.to_json()) == contract
    assert Contract.from_json(contract.to_json().encode()) == contract


@pytest.mark.parametrize("spec", [replace(SPEC, crop=None), InputSpec(12, 34, 1.0, 127.5, 58.4)])
def test_an_input_spec_survives_in_its_contract(spec: InputSpec) -> None:
    contract = replace(CONTRACT, input=spec)
    assert Contract.from_json(contract.to_json()).input == spec


def test_the_json_is_for_people_too() -> None:
    text = CONTRACT.to_json()
    values = json.loads(text)
    assert text.endswith("}\n")
    assert '"grün, hell"' in text
    assert values["schema_version"] == 1
    assert values["input"] == {
        "height": 32,
        "width": 32,
        "crop": 0.875,
        "mean": 128.0,
        "std": 128.0,
        "filter": "bicubic",
        "order": "RGB",
    }


def test_a_later_contract_opens_unless_it_needs_a_newer_reader() -> None:
    later = changed_input(a_later_key=[1])
    assert Contract.from_json(changed(schema_version=2, a_later_key={"a": 1})) == CONTRACT
    assert Contract.from_json(later) == CONTRACT
    assert Contract.from_json(changed(schema_version=2, min_reader=1)) == CONTRACT
    with pytest.raises(BadData, match=r"contract: .* version 2, .* version 1: install a newer"):
        Contract.from_json(changed(schema_version=2, min_reader=2))


def test_a_contract_that_is_written_again_is_of_this_version() -> None:
    later = changed(schema_version=2, a_later_key=1)
    assert Contract.from_json(later).to_json() == CONTRACT.to_json()


def test_a_contract_without_optional_fields_opens() -> None:
    values = json.loads(CONTRACT.to_json())
    for name in ("output", "temperature", "reject_threshold", "recipe", "schema_version"):
        del values[name]
    del values["input"]["filter"], values["input"]["order"]
    assert Contract.from_json(json.dumps(values)) == CONTRACT


@pytest.mark.parametrize(
    "key", ["input", "labels", "backbone", "weights_sha256", "graph_sha256", "tool_version"]
)
def test_a_missing_key_is_named(key: str) -> None:
    values = json.loads(CONTRACT.to_json())
    del values[key]
    with pytest.raises(BadData, match=f"the contract: {key} is missing: copy"):
        Contract.from_json(json.dumps(values))


@pytest.mark.parametrize("key", ["height", "width", "crop", "mean", "std"])
def test_a_missing_key_of_the_input_is_named(key: str) -> None:
    values = json.loads(CONTRACT.to_json())
    del values["input"][key]
    with pytest.raises(BadData, match=rf"the contract: input\.{key} is missing: copy"):
        Contract.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 0}, "input size 0x32 is not within"),
        ({"width": 4097}, "input size 32x4097 is not within"),
        ({"height": 32.0}, "height is 32.0, not a whole number"),
        ({"height": "32"}, "height is '32', not a whole number"),
        ({"crop": 0}, "crop 0 is not"),
        ({"crop": 1.01}, "crop 1.01 is not"),
        ({"crop": "all"}, "crop is 'all', not a number"),
        ({"std": 0}, "std is 0"),
        ({"std": -1}, "std is -1"),
        ({"std": float("nan")}, "std is nan"),
        ({"std": float("inf")}, "std is inf, not from"),
        ({"mean": -0.5}, "mean -0.5 and"),
        ({"mean": 255.5}, "mean 255.5 and"),
        ({"mean": float("nan")}, "mean is nan, not a number"),
        ({"mean": [127, 127, 127]}, "mean is .*, not a number"),
        ({"filter": "nearest"}, "reads RGB, bicubic; not RGB, nearest"),
        ({"order": "BGR"}, "reads RGB, bicubic; not BGR, bicubic"),
    ],
)
def test_an_impossible_input_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        Contract.from_json(changed_input(**values))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "0.5", [0.5]])
def test_an_impossible_threshold_is_refused(threshold: Any) -> None:
    with pytest.raises(BadData, match=r"reject.threshold .*, not a number|is not within"):
        Contract.from_json(changed(reject_threshold=threshold))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "no labels"),
        ("cat", "labels is .*, not a list"),
        ({"cat": 0}, "labels is .*, not a list"),
        (None, "labels is .*, not a list"),
        (["cat", 2], r"labels\[1\] is 2, not text"),
        (["two\nlines"], "is not one line of text"),
        (["cat\r"], "is not one line of text"),
        (["cat", "x" * 1_001], "labels: more than 1,000 characters"),
        (["x"] * 100_001, "has 100,001 labels, above 100,000"),
    ],
)
def test_labels_that_no_labels_file_can_hold_are_refused(labels: Any, reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        Contract.from_json(changed(labels=labels))


def test_what_cannot_be_read_is_not_written() -> None:
    longest = replace(CONTRACT, labels=("x" * 1_000, "cat"))
    assert Contract.from_json(longest.to_json()) == longest
    for values in ({"labels": ("x" * 1_001, "cat")}, {"output": "x" * 1_001}):
        with pytest.raises(BadData, match="more than 1,000 characters"):
            replace(CONTRACT, **values)
    check_label("x" * 1_000)
    with pytest.raises(BadData, match=r"^label 'x+ has more than 1,000 characters$"):
        check_label("x" * 1_001)


@pytest.mark.parametrize("text", ["x", "é", '"'])
def test_labels_that_are_accepted_can_be_read_and_more_are_refused(text: str) -> None:
    """A contract has 8 MiB at most, which 100,000 long labels exceed."""
    bytes_of_one = len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
    line = 6 + 794 * bytes_of_one + len('    "",\n')
    count = (8 * 1024**2 - 64 * 1024) // line
    labels = tuple(f"{number:06}{text * 794}" for number in range(count + 1))
    check_labels(labels[:-2])
    texts: dict[str, Any] = dict.fromkeys(TEXTS, "\0" * 1_000)
    longest = replace(CONTRACT, labels=labels[:-2], **texts)
    assert Contract.from_json(longest.to_json()) == longest
    with pytest.raises(BadData, match=r" labels take 8,\d+,\d+ bytes .* 8,388,608: shorten the"):
        check_labels(labels)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"text"', "{}", b"\xff\xfe", b"\x00", changed(input=[1, 2])],
)
def test_what_is_no_contract_is_bad_data(text: str | bytes) -> None:
    with pytest.raises(BadData, match=r"the contract(:| cannot be read) .*: copy"):
        Contract.from_json(text)


def test_a_labels_file_is_read_within_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"x" * (8 * 1024**2 + 1))
    with pytest.raises(BadData, match=r"labels\.txt: 8,388,609 bytes, more than the 8,388,608"):
        read_labels_file(path)
    with pytest.raises(BadData, match="/dev/zero: a device, not a file"):
        read_labels_file(Path("/dev/zero"))


@pytest.mark.parametrize("labels", LABELS)
def test_labels_survive_their_file(labels: tuple[str, ...]) -> None:
    text = write_labels(labels)
    assert text.count("\n") == len(labels)
    assert read_labels(text) == labels
    assert read_labels(text.removesuffix("\n")) == labels
    assert read_labels(text.replace("\n", "\r\n")) == labels


def test_the_labels_file_is_one_label_a_line() -> None:
    assert write_labels(("cat", "a, b", "grün")) == "cat\na, b\ngrün\n"
    assert read_labels("cat\n\ndog\n") == ("cat", "", "dog")
