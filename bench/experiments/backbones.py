"""Compare backbones in one table: `python -m bench.experiments.backbones DIR...`.

For each backbone and folder: `retrain bottlenecks` several times from an empty cache, after a
first one that prepares the backbone; `retrain train` and `retrain convert` with each salt;
`retrain bench` of the last run, with its int8 and its float32 model.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.experiments.accuracy import mean, measure
from bench.experiments.extract import copy_some, extract_bottlenecks
from bench.experiments.shared import (
    NO_BOUNDS,
    find_photos,
    folders_argument,
    json_option,
    retrain,
    run,
    save,
)
from bench.stats import student_quantile
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
    help="May be given several times.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The weights of MobileNetV2, which is left out without them.",
)
@click.option("--salts", default=5, show_default=True, type=click.IntRange(2, 10))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Extractions.")
@json_option
def main(
    folders: tuple[Path, ...],
    names: tuple[str, ...],
    weights: Path | None,
    salts: int,
    rounds: int,
    output: Path | None,
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
            if output:  # after each row: all of them take an hour
                save(output, {"salts": salts, "rounds": rounds, "rows": rows})
    say_table(table(rows))


def _row(folder: Path, options: Sequence[str], salts: int, rounds: int) -> Row:
    """Return all figures of a backbone on a folder, as JSON values."""
    photos = find_photos(folder)
    with TemporaryDirectory(prefix="retrain-") as temporary:
        place = Path(temporary)
        run_folder = place / "run"
        few = copy_some(folder, place / "few")
        extract_bottlenecks(few, place, "few-bottlenecks", options)
        rates = []
        for number in range(rounds):
            shutil.rmtree(place / "bottlenecks", ignore_errors=True)
            result = extract_bottlenecks(folder, place, "bottlenecks", options).values
            rates.append(result["analysed"] / result["seconds"]["bottlenecks"])
            say(f"extraction {number + 1} of {rounds}: {rates[-1]:.1f}/s", err=True)
        caches = ["--cache-dir", str(place / "cache")]
        caches += ["--bottleneck-dir", str(place / "bottlenecks")]
        by_salt = [
            measure(folder, str(salt), [*options, *caches], run_folder)
            for salt in range(1, salts + 1)
        ]
        (run_folder / "model.tflite").rename(run_folder / "int8.tflite")
        where = ("--output-dir", str(run_folder))
        retrain("convert", *where, "--quantize", "float32", *NO_BOUNDS)
        (run_folder / "model.tflite").rename(run_folder / "float32.tflite")
        names = {"graph": "output_graph.pb", "float32": "float32.tflite", "int8": "int8.tflite"}
        models = [str(run_folder / name) for name in names.values()]
        record = retrain("bench", *models, "--threads", "1")
        for refusal in record["not_run"]:
            raise BadData(f"{refusal['model']}: {refusal['reason']}")
        by_name = {runner["model"]: runner for runner in record["runners"]}
    return {
        "folder": folder.name,
        "photos": len(photos),
        "salts": by_salt,
        **mean(by_salt),
        "p50_ms": {kind: by_name[name]["ms"]["p50"] for kind, name in names.items()},
        "bytes": {kind: by_name[name]["size_bytes"] for kind, name in names.items()},
        "photos_per_s": rates,
    }


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: accuracies are means over salts with their 95% intervals.

    The intervals are those of `accuracy.mean`: compare two backbones on the same salts.
    """
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
            " / ".join(f"{p50[kind]:.1f}" for kind in ("graph", "float32", "int8")),
            " / ".join(f"{size[kind] / 1e6:.1f}" for kind in ("float32", "int8")),
            f"{median(row['photos_per_s']):.0f}",
        ]
        lines.append("|".join(cells))
    return "\n".join(f"| {line.replace('|', ' | ')} |" for line in lines)


def _interval(row: Row, name: str) -> str:
    half = student_quantile(len(row["salts"]) - 1) * row["standard_error"][name]
    return f"{row['mean'][name]:.1%} ± {100 * half:.1f}"


if __name__ == "__main__":
    run(main)
