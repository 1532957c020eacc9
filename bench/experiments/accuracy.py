"""Measure test accuracy over several splits: `python -m bench.experiments.accuracy DIR`.

Each split has another `--split-salt`: 1, 2, 3... The product's own commands train and convert.
"""

import math
import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.experiments.shared import (
    NO_BOUNDS,
    json_option,
    options_by_name,
    recipes_option,
    retrain,
    run,
    save,
)
from deploy.system.terminal import say_table

Row = dict[str, Any]

_COLUMNS = ("graph", "int8", "agreement")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--salts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--first-salt", default=1, show_default=True, type=click.IntRange(0))
@recipes_option
@click.option("--graph-only", is_flag=True, help="Convert nothing.")
@json_option
@click.argument("train_options", nargs=-1, type=click.UNPROCESSED)
def main(
    folder: Path,
    salts: int,
    first_salt: int,
    recipes: tuple[str, ...],
    graph_only: bool,
    output: Path | None,
    train_options: tuple[str, ...],
) -> None:
    """Train and convert on DIR with each salt; other options go to every `retrain train`.

    A recipe is a name and more options of `retrain train`: --recipe "classic=--optimizer sgd".
    """
    options = options_by_name(recipes) or {"default": ""}
    rows: dict[str, list[Row]] = {name: [] for name in options}
    for salt in range(first_salt, first_salt + salts):
        for name, text in options.items():
            all_options = (*train_options, *shlex.split(text))
            with tempfile.TemporaryDirectory(prefix="retrain-") as run_folder:
                row = measure(folder, str(salt), all_options, Path(run_folder), graph_only)
            rows[name].append(row)
    for name, text in options.items():
        say_table(f"\n{name}: {text or 'without more options'}\n" + table(rows[name]))
    if output:
        figures = {
            name: {
                "train": [*train_options, *shlex.split(options[name])],
                "salts": rows_of_recipe,
                **mean(rows_of_recipe),
            }
            for name, rows_of_recipe in rows.items()
        }
        save(output, {"folder": folder.name, "recipes": figures})


def mean(rows: list[Row]) -> dict[str, Any]:
    """Return the mean of each column over salts, and the standard error of that mean.

    The error is of the spread of the splits, which share photos: for new photos it is larger, by
    sqrt(1 + splits * test / training photos) after Nadeau and Bengio (2003).
    """
    columns = {name: [row[name] for row in rows] for name in _COLUMNS if name in rows[0]}
    divisor = math.sqrt(max(len(rows) - 1, 1) * len(rows))
    return {
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "standard_error": {
            name: float(np.linalg.norm(np.subtract(values, np.mean(values)))) / divisor
            for name, values in columns.items()
        },
    }


def table(rows: list[Row]) -> str:
    """Return a line for each salt, then means and their standard errors."""
    columns = [name for name in _COLUMNS if name in rows[0]]
    lines = [f"{'salt':<6}" + "".join(f"{name:>11}" for name in columns) + f"{'N':>6}"]
    for row in rows:
        cells = "".join(f"{row[name]:>11.1%}" for name in columns)
        lines.append(f"{row['salt']:<6}{cells}{row['total']:>6}")
    for name, values in mean(rows).items():
        label = {"mean": "mean", "standard_error": "+-"}[name]
        lines.append(f"{label:<6}" + "".join(f"{values[column]:>11.2%}" for column in columns))
    return "\n".join(lines)


def measure(
    folder: Path,
    salt: str | None,
    options: Sequence[str],
    run_folder: Path,
    graph_only: bool = False,
) -> Row:
    """Train on `folder` into `run_folder`, convert, and return the figures.

    Without `salt` the folders make the split. `options` go to `retrain train`; `seconds` are its
    time.
    """
    where = ("--output-dir", str(run_folder))
    splitting = ("--split-salt", salt) if salt is not None else ()
    start = time.perf_counter()
    metrics = retrain("train", str(folder), *splitting, *where, *options)
    row = {
        "salt": salt,
        "graph": metrics["test"]["accuracy"],
        "total": metrics["test"]["total"],
        "seconds": time.perf_counter() - start,
        "fine_tuning": metrics.get("fine_tuning"),
    }
    if graph_only:
        return row
    result = retrain("convert", *where, *NO_BOUNDS)
    return {
        **row,
        "int8": result["model"]["accuracy"],
        "agreement": result["agreement"],
        "bytes": result["bytes"]["model"],
    }


if __name__ == "__main__":
    run(main)
