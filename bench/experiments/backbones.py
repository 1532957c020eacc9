"""`python -m bench.experiments.backbones DIR...`: backbones compared in one table.

Each backbone on each folder: `retrain bottlenecks` some times with nothing analysed, after a first
one that prepares the backbone; `retrain train` and `retrain convert` with each salt; `retrain
bench` of the last run, with its int8 model and then with its float32 one.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.experiments.accuracy import NO_BOUNDS, folders_argument, mean, measure, retrain
from bench.experiments.extract import find_photos, product, some_of_each
from bench.machine import save
from bench.stats import student
from deploy.cli import ending
from deploy.errors import BadData
from deploy.system.terminal import say, say_table

BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2")

Row = dict[str, Any]


@click.command()
@folders_argument
@click.option(
    "--backbone",
    "names",
    multiple=True,
    default=BACKBONES,
    show_default=True,
    help="Repeatable.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="MobileNetV2's; without them it is left out.",
)
@click.option("--salts", default=5, show_default=True, type=click.IntRange(2, 10))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Extractions.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Save the figures here.")
def main(
    folders: tuple[Path, ...],
    names: tuple[str, ...],
    weights: Path | None,
    salts: int,
    rounds: int,
    path: Path | None,
) -> None:
    """Compare backbones on each DIR, and print a Markdown table."""
    rows: list[Row] = []
    for name in names:
        options = ["--architecture", name]
        if name == "mobilenet_v2":
            if weights is None:
                say("mobilenet_v2 is left out: no --weights", err=True)
                continue
            options += ["--weights", str(weights)]
        for folder in folders:
            rows.append({"backbone": name, **_row(folder, options, salts, rounds)})
            if path:  # an hour of work: what is measured is kept
                save(path, {"salts": salts, "rounds": rounds, "rows": rows})
    say_table(table(rows))


def _row(folder: Path, options: Sequence[str], salts: int, rounds: int) -> Row:
    """Return all figures of a backbone on a folder, as JSON values."""
    photos = find_photos(folder)
    with TemporaryDirectory(prefix="retrain-") as temporary:
        place = Path(temporary)
        run = place / "run"
        product(some_of_each(photos, folder, place / "few"), place, "few-bottlenecks", options)
        rates = []
        for turn in range(rounds):
            shutil.rmtree(place / "bottlenecks", ignore_errors=True)
            made = product(folder, place, "bottlenecks", options).made
            rates.append(made["analysed"] / made["seconds"]["bottlenecks"])
            say(f"extraction {turn + 1} of {rounds}: {rates[-1]:.1f}/s", err=True)
        every = [*options, "--cache-dir", str(place / "cache")]
        every += ["--bottleneck-dir", str(place / "bottlenecks")]
        by_salt = [measure(folder, str(salt), every, run) for salt in range(1, salts + 1)]
        where = ("--output-dir", str(run), "--json")
        (run / "model.tflite").rename(run / "int8.tflite")
        retrain("convert", *where, "--quantize", "float32", *NO_BOUNDS)
        (run / "model.tflite").rename(run / "float32.tflite")
        timed = {"graph": "output_graph.pb", "float32": "float32.tflite", "int8": "int8.tflite"}
        models = [str(run / name) for name in timed.values()]
        benched = retrain("bench", *models, "--threads", "1", "--json")
        for each in benched["not_run"]:
            raise BadData(f"{each['model']}: {each['reason']}")
        by_name = {each["model"]: each for each in benched["runners"]}
    return {
        "folder": folder.name,
        "photos": len(photos),
        "salts": by_salt,
        **mean(by_salt),
        "p50_ms": {kind: by_name[name]["ms"]["p50"] for kind, name in timed.items()},
        "bytes": {kind: by_name[name]["size_bytes"] for kind, name in timed.items()},
        "photos_per_s": rates,
    }


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: accuracies are means over salts with their 95% intervals."""
    head = "photos|backbone|accuracy, graph|accuracy, int8|same best label"
    head += "|p50 of graph / float32 / int8, ms|MB of float32 / int8|photos/s"
    lines = [head, "|".join(["---"] * 8)]
    for row in rows:
        p50, size = row["p50_ms"], row["bytes"]
        cells = [
            f"{row['folder']} ({row['photos']})",
            row["backbone"],
            _interval(row, "graph"),
            _interval(row, "int8"),
            f"{row['mean']['agreement']:.1%}",
            " / ".join(f"{p50[each]:.1f}" for each in ("graph", "float32", "int8")),
            " / ".join(f"{size[each] / 1e6:.1f}" for each in ("float32", "int8")),
            f"{median(row['photos_per_s']):.0f}",
        ]
        lines.append("|".join(cells))
    return "\n".join(f"| {line.replace('|', ' | ')} |" for line in lines)


def _interval(row: Row, name: str) -> str:
    half = student(len(row["salts"]) - 1) * row["standard_error"][name]
    return f"{row['mean'][name]:.1%} ± {100 * half:.1f}"


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
