"""`retrain inspect`: print what a .tflite file contains."""

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
    """Print what the .tflite file MODEL contains, and problems that it has.

    MODEL may come from any program. It is read, but not run.
    """
    from retrain.tflite.inspection import inspect as read

    try:
        contents = read(untrusted_files.read(model, untrusted_files.MAX_MODEL_BYTES))
    except BadData as error:
        raise error if str(model) in str(error) else BadData(f"{model}: {error}") from error
    if as_json:
        say(json.dumps({"schema": 1, **contents}))
        return
    problems = contents.pop("problems")
    for line in (*_lines(contents), *(f"problem: {_text(problem)}" for problem in problems)):
        say(line)


def _lines(values: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield a line for each value that holds nothing nested; leave out what is empty."""
    for key, value in values.items():
        for item in [value] if _is_plain(value) or isinstance(value, dict) else value:
            if isinstance(item, dict) and not (item and all(map(_is_plain, item.values()))):
                yield f"{indent}{key}:"
                yield from _lines(item, indent + "  ")
            elif item not in (None, []):
                yield f"{indent}{key}: {_text(item)}"


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return not any(isinstance(item, dict) for item in items)


def _text(value: Any) -> str:
    """Return the text of a value that holds nothing nested."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {_text(item)}" for name, item in value.items() if item != [])
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else repr(value)
