"""Measure what fine-tuning gains: `python -m bench.experiments.fine_tuning DIR...`.

The product's own commands train and convert, on splits of salt 1, 2, 3... On each split the linear
head, one fine-tuning, and the average of several are trained on the same photos. With --keras, all
of them are of MobileNetV2, and plain Keras trains all layers of it for as long as one fine-tuning.
"""

import math
import random
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from tempfile import TemporaryDirectory

import click

from bench.experiments import full_fine_tuning
from bench.experiments.accuracy import Row, measure
from bench.experiments.shared import folders_argument, json_option, photos_by_label, run, save
from deploy.system.terminal import say_table
from retrain.run_folder import RunFolder


@click.command()
@folders_argument
@click.option("--salts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--average", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--photos-per-class",
    type=click.IntRange(4),
    help="Draw so many photos of each class, others for each salt; test on all that are left.",
)
@click.option("--train-options", default="", help="More options for each `retrain train`.")
@click.option(
    "--keras",
    "weights",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Compare on MobileNetV2 with these weights, also with plain Keras.",
)
@json_option
def main(
    folders: tuple[Path, ...],
    salts: int,
    average: int,
    photos_per_class: int | None,
    train_options: str,
    weights: Path | None,
    output: Path | None,
) -> None:
    """Train a linear head, fine-tune once, and average AVERAGE fine-tunings, on each DIR."""
    measured: list[Row] = []
    if weights:
        train_options = f"--architecture {full_fine_tuning.NETWORK} {train_options}".rstrip()
    more = shlex.split(train_options)
    for folder in folders:
        rows: dict[str, list[Row]] = {}
        for salt in range(1, salts + 1):
            with drawn_photos(folder, photos_per_class, salt) as photos:
                split_salt = str(salt) if photos_per_class is None else None
                split = measure_split(photos, split_salt, average, more, weights)
                for name, row in split.items():
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
    """Yield a folder of links to the photos, or `folder` itself without `count`.

    Of `count` random photos of each class, four of five are for training and the others for
    validation. All other photos are for testing: so the accuracy is that of many photos.
    """
    if count is None:
        yield folder
        return
    with TemporaryDirectory(prefix="retrain-") as temporary:
        for label, photos in photos_by_label(folder).items():
            shuffled = random.Random(seed).sample(photos, len(photos))  # noqa: S311 (no secret)
            for number, photo in enumerate(shuffled):
                if number >= count:
                    split = "testing"
                else:
                    split = "training" if number < 4 * count // 5 else "validation"
                link = Path(temporary, folder.name, split, label, photo.name)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(photo.absolute())
        yield Path(temporary, folder.name)


def measure_split(
    folder: Path, salt: str | None, average: int, options: Sequence[str], weights: Path | None
) -> dict[str, Row]:
    """Return the figures of each network on the split of `salt`, or else that of the folders.

    With `weights`, of MobileNetV2, plain Keras has as many seconds as one fine-tuning. Then that
    one begins with an empty cache, as Keras does.
    """
    rows: dict[str, Row] = {}
    with TemporaryDirectory(prefix="retrain-") as temporary:
        options_of: dict[str, tuple[str, ...]] = {"linear": (), "fine-tuned": ("--fine-tune",)}
        if average > 1:
            options_of["averaged"] = ("--fine-tune", "--average", str(average))
        for name, more in options_of.items():
            run_folder = Path(temporary, "linear" if name == "linear" else "tuned")
            if weights:
                more = (*more, "--weights", str(weights), "--cache-dir", f"{run_folder}-cache")
            rows[name] = measure(folder, salt, (*more, *options), run_folder)
        if weights:
            manifest = RunFolder(Path(temporary, "tuned")).manifest
            seconds = rows["fine-tuned"]["seconds"]
            figures = full_fine_tuning.measure(manifest, weights, seconds)
            rows["keras"] = {"salt": salt, **figures}
    return rows


@dataclass(frozen=True)
class Summary:
    """The figures of a network over the splits.

    Accuracies and agreement are means, 0..1; `megabytes` is a mean, `seconds` a median, since other
    work may disturb one split. What the rows lack, as those of Keras do, is None. `gain` is that of
    int8, or else of the graph, over the linear head in points, `error` the standard error of its
    mean, as in `accuracy.mean`. Of `comparisons` with linear, `fine_tuned` kept the other network.
    """

    graph: float
    int8: float | None
    agreement: float | None
    megabytes: float | None
    seconds: float
    gain: float
    error: float
    fine_tuned: int
    comparisons: int


def summarise(networks: Mapping[str, Sequence[Row]]) -> dict[str, Summary]:
    """Return the summary of each network from its rows, one a split; "linear" is one of them."""
    summaries = {}
    for name, rows in networks.items():
        columns = [name for name in ("graph", "int8", "agreement", "bytes") if name in rows[0]]
        means = {column: mean(row[column] for row in rows) for column in columns}
        form = "int8" if "int8" in means else "graph"
        gains = [
            100 * (row[form] - linear[form])
            for row, linear in zip(rows, networks["linear"], strict=True)
        ]
        records = [row["fine_tuning"] for row in rows if row["fine_tuning"]]
        summaries[name] = Summary(
            graph=means["graph"],
            int8=means.get("int8"),
            agreement=means.get("agreement"),
            megabytes=means["bytes"] / 1e6 if "bytes" in means else None,
            seconds=median(row["seconds"] for row in rows),
            gain=mean(gains),
            error=stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan,
            fine_tuned=sum(record["kept"] == "fine-tuned" for record in records),
            comparisons=len(records),
        )
    return summaries


def table(networks: Mapping[str, Sequence[Row]]) -> str:
    """Return a line for each network."""
    lines = [
        f"{'':<12}{'graph':>8}{'int8':>8}{'gain':>14}{'agreement':>11}{'MB':>7}{'seconds':>9}"
        f"{'kept':>7}"
    ]
    for name, figures in summarise(networks).items():
        change = f"{figures.gain:+.2f} +- {figures.error:.2f}" if name != "linear" else ""
        fine_tuned = f"{figures.fine_tuned:>4}/{figures.comparisons}" if figures.comparisons else ""
        lines.append(
            f"{name:<12}{figures.graph:>8.1%}{cell(figures.int8, '.1%'):>8}{change:>14}"
            f"{cell(figures.agreement, '.1%'):>11}{cell(figures.megabytes, '.2f'):>7}"
            f"{figures.seconds:>9.0f}{fine_tuned}"
        )
    return "\n".join(lines)


def cell(value: float | None, form: str) -> str:
    """Return `value` in the format `form`, a dash for None."""
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    run(main)
