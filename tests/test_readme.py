"""The README names every command, and only options that `--help` knows; its Python runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from retrain.cli import commands

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(?:sh|console)\n(.*?)```", README, flags=re.DOTALL)
CALLS = [
    line.removeprefix("$ ")
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.removeprefix("$ ").startswith("retrain ")
]
CONTEXT = click.Context(commands)


def command(name: str) -> click.Command:
    subcommand = commands.get_command(CONTEXT, name)
    assert subcommand, f"the README calls `retrain {name}`, which does not exist"
    return subcommand


@pytest.mark.parametrize("name", commands.list_commands(CONTEXT))
def test_every_command_has_an_example(name: str) -> None:
    assert any(call.split()[1] == name for call in CALLS)
    assert command(name).get_short_help_str()


@pytest.mark.parametrize("call", CALLS)
def test_every_example_is_a_call_that_the_command_takes(call: str) -> None:
    name, *words = call.split("  #")[0].split()[1:]
    called = command(name)
    if isinstance(called, click.Group):  # `run` need not be named
        called = called.commands.get(words[0] if words else "", called.commands["run"])
    known = {option for parameter in called.params for option in parameter.opts}
    assert {word.replace("_", "-") for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", commands.list_commands(CONTEXT))
def test_every_option_is_in_the_readme(name: str) -> None:
    called = command(name)
    members = called.commands.values() if isinstance(called, click.Group) else [called]
    params = [parameter for member in members for parameter in member.params]
    options = (o for p in params if isinstance(p, click.Option) for o in p.opts)
    section = README.split(f"### retrain {name}\n")[1].split("\n### ")[0].replace("_", "-")
    assert not [option for option in options if option not in section]


def run(example: str, folder: Path, cache: Path) -> list[str]:
    """Run Python code of the README, as a script in `folder`; return the words it prints."""
    script = folder / "example.py"
    script.write_text(example, "utf-8")
    (folder / "cache").mkdir()
    (folder / "cache/retrain").symlink_to(cache)
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    process = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


EXAMPLES = {
    example.split()[1]: example
    for example in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
}


def test_the_python_example_of_the_laptop_runs(
    photos: Path, cache_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").symlink_to(photos)
    figures = run(EXAMPLES["pathlib"], tmp_path, cache_dir)
    assert len(figures) == 2
    assert all(float(figure) > 0.8 for figure in figures)


def test_the_python_example_of_the_device_runs(
    converted: Path, photos: Path, cache_dir: Path, tmp_path: Path
) -> None:
    assert len(EXAMPLES["deploy"].replace("\n\n", "\n").splitlines()) <= 5
    (tmp_path / "retrained").symlink_to(converted)
    (tmp_path / "photo.jpg").symlink_to(photos / "stripes" / "00.jpg")
    score, label, *_ = run(EXAMPLES["deploy"], tmp_path, cache_dir)
    assert label == "stripes"
    assert float(score.removesuffix("%")) > 50
