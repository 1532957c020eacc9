"""Versions and types of JSON files: later files open, wrong types are refused with their name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import pytest

from deploy.errors import BadData
from deploy.versioned_json import Fields, Limits, read

REMEDY = "train again"


@dataclass(frozen=True)
class OptionalCount:
    """A whole number that may be missing."""

    name: int | None


@dataclass(frozen=True)
class Counts:
    """Whole numbers."""

    name: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A record with its own way to be read."""

    doubled: int

    @classmethod
    def from_json(cls, values: Fields) -> "Inner":
        """Return a record."""
        return cls(doubled=2 * values.integer("count"))


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A record with a field of every kind."""

    text: str
    flag: bool
    share: Annotated[float, Limits(0, 1)]
    pair: tuple[int, float] | None
    seconds: Mapping[str, float]
    inner: Inner
    counts: tuple[Counts, ...]
    other_name: int = field(metadata={"key": "otherName"})
    added: int = field(default=7, metadata={"optional": True})


OUTER: dict[str, Any] = {
    "text": "a",
    "flag": True,
    "share": 1,
    "pair": [1, 0.5],
    "seconds": {"scan": 0.25},
    "inner": {"count": 2},
    "counts": [{"name": [1, 2]}],
    "otherName": 3,
    "unknown": None,
}


def optional_count(values: Fields, _name: str) -> int | None:
    return values.record(OptionalCount).name


def counts(values: Fields, _name: str) -> tuple[int, ...]:
    return values.record(Counts).name


def fields(**values: Any) -> Fields:
    return read(json.loads(json.dumps(values)), "run/metrics.json", 2, REMEDY)


@pytest.mark.parametrize(
    ("values", "version"),
    [({}, 1), ({"schema": 3}, 3), ({"schema_version": 9, "min_reader": 2, "later": [{}]}, 9)],
)
def test_a_file_of_any_version_opens_unless_it_needs_a_newer_reader(
    values: dict[str, Any], version: int
) -> None:
    assert fields(**values).version == version


def test_a_file_that_needs_a_newer_reader_is_refused_with_the_remedy() -> None:
    with pytest.raises(BadData) as refused:
        fields(schema=3, min_reader=3)
    message = str(refused.value)
    assert message.startswith("run/metrics.json: ")
    assert "version 3" in message
    assert "version 2" in message
    assert "install a newer version" in message


@pytest.mark.parametrize("needed", [True, "2", 1.0, 0, None, [2]])
def test_a_min_reader_that_is_no_version_is_refused(needed: Any) -> None:
    with pytest.raises(BadData, match=r"run/metrics\.json: min_reader is .*: train again"):
        fields(min_reader=needed)


@pytest.mark.parametrize("version", [True, "1", 1.5, 0, -1, None])
def test_a_version_that_is_no_version_is_refused(version: Any) -> None:
    with pytest.raises(BadData, match=r"run/metrics\.json: schema is .*: train again"):
        _ = fields(schema=version).version


@pytest.mark.parametrize("value", [None, [], 7, "text", True])
def test_a_value_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(BadData, match=r"run/metrics\.json: not a JSON object: train again"):
        read(value, "run/metrics.json", 1, REMEDY)


def test_fields_of_the_right_type_are_returned_as_they_are() -> None:
    all_types = fields(
        text="a", flag=False, whole=3, number=0.5, none=None, items=[{"a": 1}], inner={"a": "b"}
    )
    assert all_types.text("text") == all_types.text_or_none("text") == "a"
    assert all_types.boolean("flag") is False
    assert all_types.integer("whole", least=3, most=3) == 3
    assert optional_count(fields(name=3), "name") == 3
    assert type(all_types.number("whole")) is int
    assert all_types.number("number") == all_types.number_or_none("number") == 0.5
    assert all_types.object("inner").text("a") == "b"
    assert [item.integer("a") for item in all_types.objects("items")] == [1]
    for name in ("none", "missing"):
        assert all_types.text_or_none(name) is None
        assert all_types.number_or_none(name) is None
        assert all_types.object_or_none(name) is None
    assert optional_count(fields(name=None), "name") is None
    assert optional_count(fields(), "name") is None
    lists = fields(texts=["a", "b"], numbers=[1, 0.5], empty=[])
    assert lists.texts("texts") == ("a", "b")
    assert lists.numbers("numbers") == (1, 0.5)
    assert counts(fields(name=[1, 2]), "name") == (1, 2)
    assert lists.texts("empty") == ()
    assert lists.objects("empty") == ()


def test_only_a_field_that_is_there_is_null() -> None:
    optional_fields = fields(nothing=None, zero=0, text="")
    names = ("nothing", "zero", "text", "missing")
    assert [optional_fields.is_null(name) for name in names] == [True, False, False, False]


def test_a_missing_field_has_its_default_or_is_named() -> None:
    assert fields().text("name", default="a") == "a"
    assert fields().boolean("flag", default=False) is False
    assert fields().integer("count", default=0) == 0
    assert fields().number("share", default=0.5) == 0.5
    for getter in (Fields.text, Fields.boolean, Fields.integer, Fields.number, Fields.object):
        with pytest.raises(BadData, match=r"run/metrics\.json: name is missing: train again"):
            getter(fields(), "name")


@pytest.mark.parametrize(
    ("getter", "value", "problem"),
    [
        (Fields.number, "warm", "is 'warm', not a number"),
        (Fields.number, True, "is True, not a number"),
        (Fields.number, float("nan"), "is nan, not a number"),
        (Fields.number, float("inf"), "is inf, not from"),
        (Fields.number, 10**400, "is 1000"),
        (Fields.number, None, "is None, not a number"),
        (Fields.number_or_none, "0", "is '0', not a number"),
        (Fields.integer, 3.0, "is 3.0, not a whole number"),
        (Fields.integer, False, "is False, not a whole number"),
        (Fields.integer, 10**30, "is 1000"),
        (optional_count, "3", "is '3', not a whole number"),
        (Fields.text, 7, "is 7, not text"),
        (Fields.text_or_none, [], "is [], not text"),
        (Fields.boolean, 1, "is 1, not true or false"),
        (Fields.object, [], "is [], not an object"),
        (Fields.object_or_none, "a", "is 'a', not an object"),
        (Fields.texts, "ab", "is 'ab', not a list"),
        (Fields.texts, ["a", 2], "[1] is 2, not text"),
        (Fields.numbers, [1, float("nan")], "[1] is nan, not a number"),
        (counts, [True], "[0] is True, not a whole number"),
        (Fields.objects, [{}, 3], "[1] is 3, not an object"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_name(
    getter: Any, value: Any, problem: str
) -> None:
    with pytest.raises(BadData) as refused:
        getter(fields(name=value), "name")
    assert str(refused.value).startswith("run/metrics.json: name")
    assert problem in str(refused.value)
    assert str(refused.value).endswith(f": {REMEDY}")
    assert len(str(refused.value)) < 200


def test_a_number_out_of_its_limits_is_refused_with_them() -> None:
    with pytest.raises(BadData, match=r"share is 1\.5, not from 0 to 1"):
        fields(share=1.5).number("share", least=0, most=1)
    with pytest.raises(BadData, match=r"count is 0, not from 1 to 9"):
        fields(count=0).integer("count", least=1, most=9)


def test_a_field_of_an_inner_object_is_named_by_its_path() -> None:
    outer = fields(input={"size": {"height": "a"}}, goldens=[{}, {"label": 1}])
    with pytest.raises(BadData, match=r": input\.size\.height is 'a', not a whole number"):
        outer.object("input").object("size").integer("height")
    with pytest.raises(BadData, match=r": goldens\[1\]\.label is 1, not text"):
        outer.objects("goldens")[1].text("label")


def test_a_record_is_read_by_the_types_of_its_fields() -> None:
    expected = Outer(
        text="a",
        flag=True,
        share=1,
        pair=(1, 0.5),
        seconds={"scan": 0.25},
        inner=Inner(doubled=4),
        counts=(Counts((1, 2)),),
        other_name=3,
        added=7,
    )
    assert fields(**OUTER).record(Outer) == expected
    later = {**OUTER, "pair": None, "added": 8}
    assert fields(**later).record(Outer) == replace(expected, pair=None, added=8)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"text": None}, "text is None, not text"),
        ({"flag": 1}, "flag is 1, not true or false"),
        ({"share": 1.5}, "share is 1.5, not from 0 to 1"),
        ({"share": float("nan")}, "share is nan, not a number"),
        ({"pair": [1]}, "pair has 1 member, not 2"),
        ({"pair": [0.5, 1]}, "pair[0] is 0.5, not a whole number"),
        ({"seconds": {"scan": "1"}}, "seconds.scan is '1', not a number"),
        ({"seconds": []}, "seconds is [], not an object"),
        ({"inner": {}}, "inner.count is missing"),
        ({"counts": [{"name": [True]}]}, "counts[0].name[0] is True, not a whole number"),
        ({"added": None}, "added is None, not a whole number"),
    ],
)
def test_a_wrong_field_of_a_record_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadData) as refused:
        fields(**{**OUTER, **changes}).record(Outer)
    assert str(refused.value) == f"run/metrics.json: {problem}: {REMEDY}"


def test_a_missing_field_of_a_record_is_named() -> None:
    without = {name: value for name, value in OUTER.items() if name != "otherName"}
    with pytest.raises(BadData, match=r"json: otherName is missing: train again"):
        fields(**without).record(Outer)
