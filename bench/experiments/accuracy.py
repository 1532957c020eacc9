"""`python -m bench.experiments.accuracy DIR`: test accuracy over several splits.

Each split is another `--split-salt`: 1, 2, 3... The product's own commands do the work, and
their JSON gives the figures; nothing of it is imported.
"""

import json
import math
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.machine import save
from deploy.cli import ending
from deploy.system.terminal import say_table

Row = dict[str, Any]
folders_argument = click.argument(
    "folders",
    metavar="DIR...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)
NO_BOUNDS = ("--max-accuracy-drop", "100", "--min-agreement", "0", "--max-mean-difference", "1")
"""For `retrain convert`: only the figures are wanted here, those of a refused model too."""

_COLUMNS = ("graph", "int8", "agreement")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--salts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--first-salt", default=1, show_default=True, type=click.IntRange(0))
@click.option("--recipe", "recipes", multiple=True, metavar="NAME=OPTIONS", help="Repeatable.")
@click.option("--graph-only", is_flag=True, help="Convert nothing.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Save the figures here.")
@click.argument("train_options", nargs=-1, type=click.UNPROCESSED)
def main(
    folder: Path,
    salts: int,
    first_salt: int,
    recipes: tuple[str, ...],
    graph_only: bool,
    path: Path | None,
    train_options: tuple[str, ...],
) -> None:
    """Train and convert on DIR with each salt; other options go to every `retrain train`.

    A recipe is a name and more options of `retrain train`: --recipe "classic=--optimizer sgd".
    """
    named = dict(recipe.partition("=")[::2] for recipe in recipes) or {"default": ""}
    found: dict[str, list[Row]] = {name: [] for name in named}
    for salt in range(first_salt, first_salt + salts):
        for name, options in named.items():
            every = (*train_options, *shlex.split(options))
            with tempfile.TemporaryDirectory(prefix="retrain-") as out:
                found[name].append(measure(folder, str(salt), every, Path(out), graph_only))
    for name, rows in found.items():
        say_table(f"\n{name}: {named[name] or 'as it is'}\n" + table(rows))
    if path:
        figures = {
            name: {
                "train": [*train_options, *shlex.split(named[name])],
                "salts": rows,
                **mean(rows),
            }
            for name, rows in found.items()
        }
        save(path, {"folder": folder.name, "recipes": figures})


def mean(rows: list[Row]) -> dict[str, Any]:
    """Return the mean of each column over salts, and the standard error of that mean."""
    columns = {name: [row[name] for row in rows] for name in _COLUMNS if name in rows[0]}
    error = math.sqrt(max(len(rows) - 1, 1) * len(rows))
    return {
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "standard_error": {
            name: float(np.linalg.norm(np.subtract(values, np.mean(values)))) / error
            for name, values in columns.items()
        },
    }


def table(rows: list[Row]) -> str:
    """Return a line a salt, then means and their standard errors."""
    columns = [name for name in _COLUMNS if name in rows[0]]
    lines = [f"{'salt':<6}" + "".join(f"{name:>11}" for name in columns) + f"{'N':>6}"]
    for row in rows:
        cells = "".join(f"{row[name]:>11.1%}" for name in columns)
        lines.append(f"{row['salt']:<6}{cells}{row['total']:>6}")
    for name, values in mean(rows).items():
        label = {"mean": "mean", "standard_error": "+-"}[name]
        lines.append(f"{label:<6}" + "".join(f"{values[each]:>11.2%}" for each in columns))
    return "\n".join(lines)


def measure(
    folder: Path, salt: str, options: Sequence[str], out: Path, graph_only: bool = False
) -> Row:
    """Train on `folder` into the run folder `out`, convert, and return the figures.

    `options` go to `retrain train`.
    """
    where = ("--output-dir", str(out), "--json")
    trained = retrain("train", str(folder), "--split-salt", salt, *where, *options)["test"]
    row = {"salt": salt, "graph": trained["accuracy"], "total": trained["total"]}
    if graph_only:
        return row
    result = retrain("convert", *where, *NO_BOUNDS)
    return {**row, "int8": result["model"]["accuracy"], "agreement": result["agreement"]}


def retrain(*arguments: str) -> Any:
    """Run a command of the product, its progress to stderr; return the JSON that it prints."""
    command = [sys.executable, "-m", "retrain", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode:
        raise click.ClickException(f"`retrain {arguments[0]}`: exit code {done.returncode}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
