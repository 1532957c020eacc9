"""Write settings as JSON into the record of a run, read them there, and write them as options."""

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints
from urllib.parse import unquote

from deploy.versioned_json import Fields
from retrain.data.photo import shown
from retrain.data.store import is_url

_Settings = TypeVar("_Settings")
_FILE = "file://"
_OPTION_NAMES = {
    "salt": "split_salt",
    "recipe": "quantize",
    "name": "model_name",
    "licence": "license",
}
"""The names of the options that are not called as their fields."""


def to_json(settings: Any) -> Any:
    """Return the fields of a dataclass of settings as JSON has them; paths are absolute."""
    return _to_json(asdict(settings))


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_json(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return _to_text(value.absolute()) if isinstance(value, Path) else value


def _to_text(path: Path) -> str:
    """Return a path as text that can be read back: a `file://` URL if it is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.as_uri()
    return str(path)


def _to_place(text: str) -> Path | str:
    """Return the path or the URL of the text."""
    if text.startswith(_FILE):
        return Path(unquote(text.removeprefix(_FILE), errors="surrogateescape"))
    return text if is_url(text) else Path(text)


def read(record: Fields, kind: type[_Settings]) -> _Settings:
    """Return the settings of the dataclass `kind` that `to_json` wrote into `record`.

    A field that the record lacks has its default. Values are not checked: those of a wrong type
    raise whatever the dataclass raises.
    """
    return kind(**read_fields(record, kind))


def read_fields(record: Fields, kind: Any) -> dict[str, Any]:
    """Return the fields of the dataclass `kind` that `record` has, in their types."""
    types = get_type_hints(kind)
    return {
        field.name: _in_type(record, field.name, types[field.name])
        for field in fields(kind)
        if field.name in record.values
    }


def _in_type(record: Fields, name: str, kind: Any) -> Any:
    value, kinds = record.values[name], (kind, *get_args(kind))
    inner = _group(kind)
    if value is not None and inner:
        return read(record.object(name), inner)

    def as_place(text: Any) -> Any:
        return text if text is None or Path not in kinds else _to_place(text)

    return tuple(map(as_place, value)) if isinstance(value, list) else as_place(value)


def _group(kind: Any) -> Any:
    """Return the dataclass of settings in the type `kind` of a field, None if there is none."""
    kinds = (kind, *get_args(kind))
    return next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)


def options(settings: Any, without: Collection[str] = ()) -> list[str]:
    """Return the words of the options that give these settings, as far as they are no defaults.

    Fields in `without` are left out, also those of a dataclass inside.
    """
    words: list[str] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in without:
            continue
        if is_dataclass(value):
            words += options(value, without)
        elif value != _default(field):
            words += _words(field.name, value)
    return words


def settings_to_options(text: str, kind: Any) -> str:
    """Return `text` with the option in place of each setting in backquotes.

    Settings are the fields of the dataclass `kind` and of those inside, called as the parameters of
    their options. Another name stays as it is.
    """
    names = _options_of(kind)
    return re.sub(r"`(\w+)`", lambda match: names.get(match[1], match[0]), text)


@cache
def _options_of(kind: Any) -> Mapping[str, str]:
    """Return the option of each setting of the dataclass `kind`, and of those inside."""
    names: dict[str, str] = {}
    for name, type_of_field in get_type_hints(kind).items():
        group = _group(type_of_field)
        names |= _options_of(group) if group else {_OPTION_NAMES.get(name, name): _option(name)}
    return names


def _option(name: str) -> str:
    """Return the option of the field `name`."""
    return f"--{_OPTION_NAMES.get(name, name).replace('_', '-')}"


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _words(name: str, value: Any) -> list[str]:
    option = _option(name)
    if value is True:
        return [option]
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        return [option, "x".join(map(str, value))]
    values = value if isinstance(value, tuple) else (value,)
    return [word for item in values for word in (option, _text(item))]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return shown(value) if isinstance(value, Path) else str(value)
