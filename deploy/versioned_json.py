"""Read JSON files that outlive the program that wrote them: one rule for versions, typed fields.

The rule for every JSON file of a run, of a model file and of a device:

- The file names the version of its format, under `schema` or `schema_version`. A file without one
  has version 1.
- A reader ignores keys that it does not know. A new optional key needs no new version.
- A file may hold `min_reader`: the lowest version whose readers understand it. A reader refuses
  the file only if `min_reader` is above the reader's own version.
- A writer writes `min_reader` only into a file that readers of version 1 would misunderstand.
  Without it any reader of this rule may read the file, whatever version the file names. Files
  from before this rule have no `min_reader` and open; files that need none keep their bytes.

A value of a wrong type is refused with the name of its field, and never converted: `true` is not a
number, 3.0 is not a whole number, NaN and infinity are not numbers.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from deploy.errors import BadData
from deploy.system.counts import with_noun

MIN_READER = "min_reader"
_VERSION_KEYS = ("schema_version", "schema")
_UPDATE = "install a newer version of retrain-tflite (on a device: a newer bundle)"
_MAX_INT = 2**63 - 1
_MAX_FLOAT = sys.float_info.max
_Number = TypeVar("_Number", int, float)
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Limits:
    """The least and the greatest value of a number: `Annotated[float, Limits(0, 1)]`."""

    least: float
    most: float


@dataclass(frozen=True)
class Fields:
    """A JSON object whose fields are read by name and type.

    `where` names the file in messages; `remedy` says what its user can do; `parent` is the path of
    this object inside the file, such as `goldens[2].`. Every method raises BadData, with file,
    field and remedy, for a value of another type and for a missing field without a default. The
    methods `..._or_none` return None for a field that is missing or null.
    """

    values: Mapping[str, Any]
    where: str
    remedy: str
    parent: str = ""

    @property
    def version(self) -> int:
        """The version of the file's format; 1 if the file names none."""
        key = next((key for key in _VERSION_KEYS if key in self.values), "schema")
        return self.integer(key, default=1, least=1)

    def error(self, problem: str) -> BadData:
        """Return the error for a problem of this file."""
        return BadData(f"{self.where}: {problem}: {self.remedy}")

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string."""
        return self._as_text(name, self._value(name, default))

    def text_or_none(self, name: str) -> str | None:
        """Return a string or None."""
        return self.text(name) if self._is_set(name) else None

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """Return true or false."""
        return self._as_boolean(name, self._value(name, default))

    def integer(
        self, name: str, default: int | None = None, least: int = -_MAX_INT, most: int = _MAX_INT
    ) -> int:
        """Return a whole number from `least` to `most`."""
        return self._as_integer(name, self._value(name, default), least, most)

    def number(
        self,
        name: str,
        default: float | None = None,
        least: float = -_MAX_FLOAT,
        most: float = _MAX_FLOAT,
    ) -> float:
        """Return a finite number from `least` to `most`; a whole number stays an int."""
        return self._as_number(name, self._value(name, default), least, most)

    def number_or_none(
        self, name: str, least: float = -_MAX_FLOAT, most: float = _MAX_FLOAT
    ) -> float | None:
        """Return a finite number from `least` to `most`, or None."""
        return self.number(name, least=least, most=most) if self._is_set(name) else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the strings of a list."""
        items = self._items(name)
        return tuple(self._as_text(item_name, item) for item_name, item in items)

    def numbers(
        self, name: str, least: float = -_MAX_FLOAT, most: float = _MAX_FLOAT
    ) -> tuple[float, ...]:
        """Return the finite numbers of a list."""
        items = self._items(name)
        return tuple(self._as_number(item_name, item, least, most) for item_name, item in items)

    def object(self, name: str) -> "Fields":
        """Return the fields of an object."""
        return self._as_object(name, self._value(name, None))

    def object_or_none(self, name: str) -> "Fields | None":
        """Return the fields of an object, or None."""
        return self.object(name) if self._is_set(name) else None

    def objects(self, name: str) -> tuple["Fields", ...]:
        """Return the fields of every object of a list."""
        return tuple(self._as_object(item_name, item) for item_name, item in self._items(name))

    def record(self, kind: type[_Record]) -> _Record:
        """Return a dataclass, whose fields are read by their types.

        Types are str, bool, int, float (with `Limits` or without), tuples, mappings from str, and
        dataclasses; one with a method `from_json` is read by that. A field of a type `... | None`
        may be missing. So may one whose metadata have "optional": it then keeps its default. The
        metadata "key" is the name in the file, if that differs.
        """
        types = get_type_hints(kind, include_extras=True)
        values = {}
        for field in fields(kind):  # type: ignore[arg-type]
            name = field.metadata.get("key", field.name)
            if name in self.values:
                values[field.name] = self._as(name, self.values[name], types[field.name])
            elif _may_be_none(types[field.name]):
                values[field.name] = None
            elif not field.metadata.get("optional"):
                raise self.error(f"{self.parent}{name} is missing")
        return kind(**values)

    def is_null(self, name: str) -> bool:
        """Return whether a field is there and null; a missing field is not."""
        return name in self.values and self.values[name] is None

    def _is_set(self, name: str) -> bool:
        return self.values.get(name) is not None

    def _value(self, name: str, default: Any) -> Any:
        if name in self.values:
            return self.values[name]
        if default is None:
            raise self.error(f"{self.parent}{name} is missing")
        return default

    def _items(self, name: str) -> list[tuple[str, Any]]:
        return self._as_list(name, self._value(name, None))

    def _as_list(self, name: str, value: Any) -> list[tuple[str, Any]]:
        """Return the items of a list, each with the name that a message gives to it."""
        if not isinstance(value, list):
            raise self._wrong(name, value, "a list")
        return [(f"{name}[{i}]", item) for i, item in enumerate(value)]

    def _as(self, name: str, value: Any, kind: Any) -> Any:
        """Return `value` as the type `kind`; see `record`."""
        arguments = get_args(kind)
        if _may_be_none(kind):
            return None if value is None else self._as(name, value, arguments[0])
        if kind is str:
            return self._as_text(name, value)
        if kind is bool:
            return self._as_boolean(name, value)
        if get_origin(kind) is Annotated:
            kind, limits = arguments
        else:
            limits = Limits(-_MAX_INT, _MAX_INT) if kind is int else Limits(-_MAX_FLOAT, _MAX_FLOAT)
        if kind is int:
            return self._as_integer(name, value, limits.least, limits.most)
        if kind is float:
            return self._as_number(name, value, limits.least, limits.most)
        if get_origin(kind) is tuple:
            items = self._as_list(name, value)
            kinds = arguments[:1] * len(items) if Ellipsis in arguments else arguments
            if len(items) != len(kinds):
                members = with_noun(len(items), "member")
                raise self.error(f"{self.parent}{name} has {members}, not {len(kinds)}")
            return tuple(self._as(*item, of) for item, of in zip(items, kinds, strict=True))
        inner = self._as_object(name, value)
        if get_origin(kind):  # a mapping
            return {key: inner._as(key, inner.values[key], arguments[1]) for key in inner.values}
        return kind.from_json(inner) if hasattr(kind, "from_json") else inner.record(kind)

    def _as_boolean(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def _as_text(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong(name, value, "text")
        return value

    def _as_integer(self, name: str, value: Any, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, value, "a whole number")
        return self._within(name, value, least, most)

    def _as_number(self, name: str, value: Any, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise self._wrong(name, value, "a number")
        return self._within(name, value, least, most)

    def _as_object(self, name: str, value: Any) -> "Fields":
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return Fields(value, self.where, self.remedy, f"{self.parent}{name}.")

    def _within(self, name: str, value: _Number, least: _Number, most: _Number) -> _Number:
        if not least <= value <= most:
            raise self._wrong(name, value, f"from {least:g} to {most:g}")
        return value

    def _wrong(self, name: str, value: Any, expected: str) -> BadData:
        return self.error(f"{self.parent}{name} is {value!r:.40}, not {expected}")


def read(value: Any, where: str, version: int, remedy: str) -> Fields:
    """Return the fields of a file's JSON value for a reader of `version`.

    `where` names the file in messages; `remedy` says how to get a good one, such as "train again".
    Raises BadData for a value that is not an object, and for a file that needs a newer reader.
    """
    if not isinstance(value, dict):
        raise BadData(f"{where}: not a JSON object: {remedy}")
    fields = Fields(value, where, remedy)
    _ = fields.version  # checks its type, whatever the version
    needed = fields.integer(MIN_READER, default=1, least=1)
    if needed > version:
        raise BadData(
            f"{where}: it needs a reader of version {needed}, and this program reads version "
            f"{version}: {_UPDATE}"
        )
    return fields


def _may_be_none(kind: Any) -> bool:
    return NoneType in get_args(kind)
