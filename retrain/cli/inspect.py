"""`retrain inspect`: what is in a .tflite file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from deploy import untrusted_files
from deploy.errors import BadData
from deploy.system.terminal import say
from retrain.cli.options import json_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def inspect(model: Path, as_json: bool) -> None:
    """Print everything in the .tflite file MODEL, whoever made it; it is not run."""
    from deploy.model_file import MAX_MODEL_BYTES
    from retrain.tflite.inspection import inspect as read

    try:
        found = read(untrusted_files.read(model, MAX_MODEL_BYTES))
    except BadData as error:
        raise error if str(model) in str(error) else BadData(f"{model}: {error}") from error
    if as_json:
        say(json.dumps({"schema": 1, **found}))
        return
    problems = found.pop("problems")
    for line in (*_lines(found), *(f"problem: {_text(each)}" for each in problems)):
        say(line)


def _lines(values: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Return the lines of `values`: what holds nothing nested has one, what is empty none."""
    for key, value in values.items():
        for part in [value] if _plain(value) or isinstance(value, dict) else value:
            if isinstance(part, dict) and not (part and all(map(_plain, part.values()))):
                yield f"{indent}{key}:"
                yield from _lines(part, indent + "  ")
            elif part not in (None, []):
                yield f"{indent}{key}: {_text(part)}"


def _plain(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return not any(isinstance(part, dict) for part in parts)


def _text(value: Any) -> str:
    """Return the text of a value that holds nothing nested."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {_text(each)}" for name, each in value.items() if each != [])
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else repr(value)
