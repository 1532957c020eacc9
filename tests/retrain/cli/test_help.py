"""Help texts: options in groups, 80 columns, the road without arguments, completion by a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy.cli.help_groups import GroupedCommand
from retrain.cli import commands

MANY_OPTIONS = 8
"""A command with more options than that has them in groups."""
BASH = shutil.which("bash") or ""
ROAD = ("sample", "train", "convert", "label", "push")


def contexts() -> list[click.Context]:
    """Return the context of each command, those of `bench` too."""
    root = click.Context(commands, info_name="retrain", **commands.context_settings)
    all_contexts = []
    for name in commands.list_commands(root):
        command = commands.get_command(root, name)
        assert command
        ctx = click.Context(command, info_name=name, parent=root)
        all_contexts.append(ctx)
        if isinstance(command, click.Group):
            for inner, member in command.commands.items():
                all_contexts.append(click.Context(member, info_name=inner, parent=ctx))
    return all_contexts


ALL = pytest.mark.parametrize("ctx", contexts(), ids=lambda ctx: ctx.command_path)


@ALL
def test_no_number_may_be_nan(ctx: click.Context) -> None:
    kinds = {type(item.type) for item in ctx.command.params}
    assert kinds.isdisjoint({click.FloatRange, click.types.FloatParamType})


@ALL
def test_every_option_of_a_long_command_is_in_one_group(ctx: click.Context) -> None:
    options = [item for item in ctx.command.get_params(ctx) if isinstance(item, click.Option)]
    if not isinstance(ctx.command, GroupedCommand):
        assert len(options) <= MANY_OPTIONS
        return
    names = {name for option in options for name in option.opts}
    grouped = [name for members in ctx.command.groups.values() for name in members]
    assert set(grouped) <= names
    assert len(grouped) == len(options)
    assert "Other options" not in ctx.command.option_groups(ctx)


@ALL
def test_help_fits_into_80_columns(ctx: click.Context) -> None:
    words = ctx.command_path.split()[1:]
    result = CliRunner().invoke(commands, [*words, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_option_in_no_group_is_shown_last() -> None:
    command = GroupedCommand(
        "mow",
        params=[click.Option(["--height"]), click.Option(["--lawn"])],
        groups={"Place": ("--lawn",)},
    )
    lines = [line.strip() for line in command.get_help(click.Context(command)).splitlines()]
    titles = [line for line in lines if line.endswith(":")]
    assert titles == ["Place:", "Other options:"]
    assert lines.index("--lawn TEXT") < lines.index("Other options:") < lines.index("--height TEXT")


def test_without_arguments_the_road_is_shown_below_the_usage() -> None:
    result = CliRunner().invoke(commands, [])
    assert result.exit_code == 2
    lines = [line.strip() for line in result.output.splitlines()]
    road = [line.split()[1] for line in lines if line.startswith("retrain ")]
    assert tuple(road) == ROAD
    assert lines[0].startswith("Usage:")


def complete(words: str, folder: Path) -> list[str]:
    """Return what bash offers for the last of `words`."""
    launcher = folder / "retrain"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m retrain "$@"\n')
    launcher.chmod(0o755)
    script = f"""
        eval "$(_RETRAIN_COMPLETE=bash_source retrain)"
        COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _retrain_completion retrain
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    process = subprocess.run(
        [BASH, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return process.stdout.split()


@pytest.mark.skipif(not BASH, reason="no bash on this machine")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("retrain tr", ["train"]),
        ("retrain train --optimizer s", ["standardized", "sgd"]),
        ("retrain train --random-sc", ["--random-scale"]),
        ("retrain bench co", ["compare"]),
    ],
)
def test_bash_completes(words: str, offered: list[str], tmp_path: Path) -> None:
    assert complete(words, tmp_path) == offered
