"""Share options, the product's commands and the saving of figures between the experiments."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click
import psutil

from bench.machine import read_machine
from bench.record import SCHEMA_VERSION, to_text
from deploy import files
from deploy.cli import ending
from deploy.errors import BadData
from deploy.image import HEAD, why_not_photo
from retrain.settings.cache import default_cache_dir

NO_BOUNDS = ("--max-accuracy-drop", "100", "--min-agreement", "0", "--max-mean-difference", "1")
"""Options for `retrain convert` that accept every model, so that its figures are printed."""
_REPORTING = ("train", "adopt", "convert", "bench")
_SAMPLING_S = 0.05

folders_argument = click.argument(
    "folders",
    metavar="DIR...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)
json_option = click.option(
    "--json", "output", type=click.Path(path_type=Path), help="Save the figures in this file."
)
seeds_option = click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
cache_dir_option = click.option(
    "--cache-dir",
    default=default_cache_dir,
    type=click.Path(path_type=Path),
    help="As for `retrain doctor`.",
)
recipes_option = click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="NAME=OPTIONS",
    help="May be given several times.",
)


class Finished(NamedTuple):
    """The text that a command printed, and the most memory that it held, in MB."""

    stdout: str
    peak_mb: float


def run(main: click.Command) -> NoReturn:
    """Run the command of an experiment; end with its message and exit code."""
    ending(partial(main, standalone_mode=False))


def save(path: Path, figures: Mapping[str, Any]) -> None:
    """Write `figures` with a version and this machine as JSON, whole or not at all."""
    machine = asdict(read_machine())
    files.write(path, to_text({"schema": SCHEMA_VERSION, "machine": machine, **figures}))


def options_by_name(values: Sequence[str]) -> dict[str, str]:
    """Return the options of each NAME=OPTIONS."""
    return dict(value.partition("=")[::2] for value in values)


def retrain(*arguments: str) -> Any:
    """Run a command of the product with --json, and return what it prints.

    Its progress and its errors go to stderr. If it fails, this program ends with its exit code.
    """
    return json.loads(retrain_text(*_without_report(*arguments), "--json"))


def _without_report(*arguments: str) -> tuple[str, ...]:
    """Return the arguments with --no-report, for a command that would write one by the way."""
    return (*arguments, "--no-report") if arguments[0] in _REPORTING else arguments


def retrain_text(*arguments: str) -> str:
    """Run a command of the product, and return the text that it prints."""
    return run_module("retrain", *arguments)


def run_module(module: str, *arguments: str) -> str:
    """Run a Python module with `arguments` as a program, and return the text that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 (ourselves)
    _check(f"{module} {arguments[0]}", process.returncode)
    return process.stdout.decode()


def retrain_with_memory(*arguments: str) -> Finished:
    """Run a command of the product with --json, and watch its memory, every 50 ms.

    The memory is that of the process and its descendants together: what they share counts once.
    """
    command = [sys.executable, "-m", "retrain", *_without_report(*arguments), "--json"]
    return run_with_memory(command)


def run_with_memory(command: Sequence[str]) -> Finished:
    """Run `command`, and watch the memory of it and its descendants, every 50 ms."""
    peak, is_over = 0, threading.Event()
    with psutil.Popen(command, stdout=subprocess.PIPE) as process:

        def watch() -> None:
            nonlocal peak
            while not is_over.wait(_SAMPLING_S):
                peak = max(peak, family_bytes(process))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            stdout, _ = process.communicate()
        finally:
            is_over.set()
            watcher.join()
    _check(os.path.basename(command[0]), process.returncode)  # noqa: PTH119 (a program's name)
    return Finished(stdout.decode(), peak / 1e6)


def family_bytes(process: psutil.Process) -> int:
    """Return the bytes that a process and its descendants hold; shared ones count once."""
    total = 0
    with suppress(psutil.Error):  # it has ended
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                memory = member.memory_full_info()
                total += getattr(memory, "pss", memory.uss)  # only Linux has the former
    return total


def find_photos(folder: Path) -> list[Path]:
    """Return the photos in the sub-folders of `folder`, found by content, in a fixed order."""
    photos = []
    for path in sorted(path for path in folder.glob("*/**/*") if path.is_file()):
        with path.open("rb") as stream:
            if why_not_photo(stream.read(HEAD), path) is None:
                photos.append(path)
    if not photos:
        raise BadData(f"no photos under {folder}: expected one folder per label holding photos")
    return photos


def photos_by_label(folder: Path) -> dict[str, list[Path]]:
    """Return the photos of `folder` by the name of its sub-folder, each in the order of paths."""
    by_label: dict[str, list[Path]] = {}
    for photo in find_photos(folder):
        by_label.setdefault(photo.relative_to(folder).parts[0], []).append(photo)
    return by_label


def _check(command: str, code: int) -> None:
    if code < 0:
        raise BadData(f"{command} was killed ({signal.Signals(-code).name})")
    if code:
        raise click.exceptions.Exit(code)
