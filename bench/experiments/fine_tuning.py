"""Measure what fine-tuning gains: `python -m bench.experiments.fine_tuning DIR...`.

The product's own commands train and convert, on splits of salt 1, 2, 3... On each split the linear
head, one fine-tuning, and the average of several are trained on the same photos.
"""

import math
import random
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.experiments.shared import (
    NO_BOUNDS,
    find_photos,
    folders_argument,
    json_option,
    retrain,
    run,
    save,
)
from deploy.system.terminal import say_table

Row = dict[str, Any]
_COLUMNS = ("graph", "int8", "agreement", "bytes")


@click.command()
@folders_argument
@click.option("--salts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--average", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--photos-per-class",
    type=click.IntRange(4),
    help="Draw so many photos of each class, others for each salt.",
)
@click.option("--train-options", default="", help="More options for each `retrain train`.")
@json_option
def main(
    folders: tuple[Path, ...],
    salts: int,
    average: int,
    photos_per_class: int | None,
    train_options: str,
    output: Path | None,
) -> None:
    """Train a linear head, fine-tune once, and average AVERAGE fine-tunings, on each DIR."""
    measured: list[Row] = []
    for folder in folders:
        rows: dict[str, list[Row]] = {}
        for salt in range(1, salts + 1):
            with drawn_photos(folder, photos_per_class, salt) as photos:
                for name, row in measure(photos, salt, average, shlex.split(train_options)).items():
                    rows.setdefault(name, []).append(row)
            say_table(f"{folder.name}, salts 1 to {salt}\n" + table(rows) + "\n")
            if output:  # after each salt: all of them take an hour
                figures = {"photos": folder.name, "networks": rows}
                save(
                    output,
                    {
                        "average": average,
                        "photos_per_class": photos_per_class,
                        "train": train_options,
                        "measured": [*measured, figures],
                    },
                )
        measured.append({"photos": folder.name, "networks": rows})


@contextmanager
def drawn_photos(folder: Path, count: int | None, seed: int) -> Iterator[Path]:
    """Yield a folder of links to `count` photos of each class, or `folder` itself without one."""
    if count is None:
        yield folder
        return
    by_class: dict[Path, list[Path]] = {}
    for photo in find_photos(folder):
        by_class.setdefault(photo.parent, []).append(photo)
    with TemporaryDirectory(prefix="retrain-") as temporary:
        for parent, photos in by_class.items():
            drawn = Path(temporary, folder.name, parent.name)
            drawn.mkdir(parents=True)
            for photo in random.Random(seed).sample(photos, count):  # noqa: S311 (no secret)
                (drawn / photo.name).symlink_to(photo.absolute())
        yield Path(temporary, folder.name)


def measure(folder: Path, salt: int, average: int, options: Sequence[str]) -> dict[str, Row]:
    """Return the figures of each network on the split of `salt`."""
    rows: dict[str, Row] = {}
    with TemporaryDirectory(prefix="retrain-") as temporary:
        options_of: dict[str, tuple[str, ...]] = {"linear": (), "fine-tuned": ("--fine-tune",)}
        if average > 1:  # it adds runs to the one that is finished
            options_of["averaged"] = ("--fine-tune", "--average", str(average), "--resume")
        for name, more in options_of.items():
            run_folder = Path(temporary, "linear" if name == "linear" else "tuned")
            where = ("--output-dir", str(run_folder))
            start = time.perf_counter()
            metrics = retrain(
                "train", str(folder), "--split-salt", str(salt), *where, *more, *options
            )
            seconds = time.perf_counter() - start
            result = retrain("convert", *where, *NO_BOUNDS)
            rows[name] = {
                "salt": salt,
                "graph": result["graph"]["accuracy"],
                "int8": result["model"]["accuracy"],
                "agreement": result["agreement"],
                "total": result["model"]["total"],
                "bytes": result["bytes"]["model"],
                "seconds": seconds,
                "stages": metrics["seconds"],
                "fine_tuning": metrics.get("fine_tuning"),
            }
    if "averaged" in rows:
        rows["averaged"]["seconds"] += rows["fine-tuned"]["seconds"]
    return rows


def gain(rows: dict[str, list[Row]], name: str) -> tuple[float, float]:
    """Return the mean gain of int8 accuracy over the linear head in points, and its error."""
    gains = [
        100 * (row["int8"] - linear["int8"])
        for row, linear in zip(rows[name], rows["linear"], strict=True)
    ]
    error = float(np.std(gains, ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
    return float(np.mean(gains)), error


def table(rows: dict[str, list[Row]]) -> str:
    """Return a line for each network: means over the salts, the gain in points, median seconds."""
    lines = [
        f"{'':<12}{'graph':>8}{'int8':>8}{'gain':>14}{'agreement':>11}{'MB':>7}{'seconds':>9}"
        f"{'kept':>7}"
    ]
    for name, of_salts in rows.items():
        means = {column: float(np.mean([row[column] for row in of_salts])) for column in _COLUMNS}
        seconds = float(np.median([row["seconds"] for row in of_salts]))  # one may be disturbed
        points, error = gain(rows, name)
        change = f"{points:+.2f} +- {error:.2f}" if name != "linear" else ""
        records = [row["fine_tuning"] for row in of_salts if row["fine_tuning"]]
        kept = sum(record["kept"] == "fine-tuned" for record in records)
        lines.append(
            f"{name:<12}{means['graph']:>8.1%}{means['int8']:>8.1%}{change:>14}"
            f"{means['agreement']:>11.1%}{means['bytes'] / 1e6:>7.2f}{seconds:>9.0f}"
            + (f"{kept:>4}/{len(records)}" if records else "")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
