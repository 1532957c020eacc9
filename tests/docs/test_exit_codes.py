"""The page on exit codes names the code of every error, and every variable that the code reads."""

import re
from collections.abc import Iterator

import click
import pytest

from deploy.cli import INTERRUPTED, STDOUT_CLOSED
from deploy.errors import BadData, GateFailed, RetrainError, WrongUse
from retrain.cli import commands
from tests.docs.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/reference/exit-codes.md").read_text("utf-8")
PACKAGES = ("retrain", "deploy", "bench")
READ = re.compile(r"environ(?:\.get|\.setdefault)?[(\[]\s*\"(\w+)\"")
OF_LIBRARIES = frozenset({"OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL", "PYTHONPATH"})
"""Variables that keep a library quiet or start a Python: nothing for a user to set."""


@pytest.mark.parametrize("error", [WrongUse, BadData, GateFailed])
def test_every_error_is_on_the_line_of_its_code(error: type[RetrainError]) -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| {error.exit_code} |")]
    assert len(lines) == 1
    assert f"`{error.__name__}`" in lines[0]


@pytest.mark.parametrize("code", [0, RetrainError.exit_code, INTERRUPTED, STDOUT_CLOSED])
def test_every_other_code_has_a_line(code: int) -> None:
    assert f"\n| {code} | " in PAGE


def test_every_environment_variable_is_described() -> None:
    sources = [
        path.read_text("utf-8")
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        if "experiments" not in path.parts
    ]
    variables = {name for text in sources for name in READ.findall(text)}
    assert {"RETRAIN_DEBUG", "KERAS_HOME"} <= variables
    assert not [name for name in variables - OF_LIBRARIES if f"`{name}`" not in PAGE]


def _with_json(command: click.Command, name: str = "") -> Iterator[str]:
    """Yield the names of a group's commands that have --json."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            assert subcommand
            yield from _with_json(subcommand, f"{name} {child}".strip())
    elif any("--json" in parameter.opts for parameter in command.params):
        yield name


def test_the_keys_of_each_json_are_described() -> None:
    rows = "".join(line for line in PAGE.splitlines(keepends=True) if line.startswith("| `"))
    names = set(_with_json(commands))
    assert {"train", "cache ls", "report", "doctor"} <= names
    assert not [name for name in names if f"`{name}`" not in rows]
