"""`python -m bench.experiments.unknown DIR OTHER`: how well photos of something else are found out.

A model of DIR against the photos of OTHER, one of OTHER against those of DIR, and for each class
of DIR a model of its other classes against that one. The product's own commands do the work; the
known photos are those of the test split, and the score is that of the best label.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt

from bench.experiments.accuracy import NO_BOUNDS, retrain
from bench.machine import save
from deploy.cli import ending
from deploy.system.terminal import say, say_table

Row = dict[str, Any]
Values = npt.NDArray[np.float64]
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_TRUE_ACCEPT = 0.95


class Found(NamedTuple):
    """Of each photo the score of the best label, and whether it was called unknown, (N,) each."""

    scores: Values
    unknown: npt.NDArray[np.bool_]


@click.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.argument("other", metavar="OTHER", type=_FOLDER)
@click.option("--reject-rate", default=0.05, show_default=True, type=click.FloatRange(0, 1))
@click.option("--salt", default="", help="Of the split.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Save the figures here.")
def main(folder: Path, other: Path, reject_rate: float, salt: str, path: Path | None) -> None:
    """Measure what `retrain convert --reject-rate` gives; a rate of 0 is the plain model's score.

    Printed are AUROC, the share of unknown photos that are taken for known ones where 95% of the
    known ones are accepted, and what the model itself says, by the threshold that is in it.
    """
    rows: list[Row] = []

    def measure(name: str, known: Path, unknown: Path) -> None:
        with TemporaryDirectory(prefix="retrain-") as temporary:
            rows.append({"name": name, **_measure(known, unknown, reject_rate, salt, temporary)})
        if path:  # minutes of work: what is measured is kept
            save(path, {"reject_rate": reject_rate, "salt": salt, "rows": rows})
        say(rows[-1]["name"] + " is measured", err=True)

    measure(f"{folder.name}, photos of {other.name}", folder, other)
    measure(f"{other.name}, photos of {folder.name}", other, folder)
    labels = sorted(each.name for each in folder.iterdir() if each.is_dir())
    for label in labels if len(labels) > 2 else []:  # one class is no choice
        with TemporaryDirectory(prefix="retrain-") as temporary:
            for each in labels:
                if each != label:
                    copytree(folder / each, Path(temporary, each))
            measure(f"{folder.name} without {label}, its photos", Path(temporary), folder / label)
    say_table(table(rows))


def _measure(known: Path, unknown: Path, rate: float, salt: str, run: str) -> Row:
    where = ("--output-dir", run, "--json")
    retrain("train", str(known), "--split-salt", salt, *where)
    result = retrain("convert", *where, *NO_BOUNDS, "--reject-rate", str(rate))
    with Path(run, "manifest.csv").open(encoding="utf-8", newline="") as stream:
        testing = [row["path"] for row in csv.DictReader(stream) if row["split"] == "testing"]
    model = str(Path(run, "model.tflite"))
    figures = assess(_label(model, testing), _label(model, [str(unknown)]))
    return {"accuracy": result["model"]["accuracy"], "rejection": result["rejection"], **figures}


def _label(model: str, photos: Sequence[str]) -> Found:
    command = [sys.executable, "-m", "retrain", "label", "--json", "--top", "1", "--model", model]
    done = subprocess.run([*command, *photos], stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode:
        raise click.ClickException(f"`retrain label`: exit code {done.returncode}")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    unknown = np.array([each["unknown"] for each in shown])
    scores = np.array([each["scores"][0] for each in shown])
    return Found(np.where(unknown, 1 - scores, scores), unknown)


def assess(known: Found, unknown: Found) -> Row:
    """Return the figures: AUROC, false accepts at 95% true accepts, and those of the model's rule.

    To accept 95% of the known photos, all are accepted that score no less than the least of these.
    """
    least = np.quantile(known.scores, 1 - _TRUE_ACCEPT, method="lower")
    return {
        "known": len(known.scores),
        "unknown": len(unknown.scores),
        "auroc": auroc(known.scores, unknown.scores),
        "false_accept_at_95": float(np.mean(unknown.scores >= least)),
        "rule": {
            "true_accept": float(1 - np.mean(known.unknown)),
            "false_accept": float(1 - np.mean(unknown.unknown)),
        },
    }


def auroc(known: Values, unknown: Values) -> float:
    """Return how often a known photo scores higher than an unknown one; a tie is half a win."""
    ordered = np.sort(unknown)
    below = np.searchsorted(ordered, known, "left") + np.searchsorted(ordered, known, "right")
    return float(below.mean() / 2 / len(unknown))


def table(rows: Sequence[Row]) -> str:
    """Return a line a row, and the mean of those without a class."""
    lines = [
        f"{'known, unknown':<44}{'AUROC':>7}{'false accept':>14}{'by the rule: true, false':>26}"
    ]
    for row in rows:
        rule = f"{row['rule']['true_accept']:.1%}, {row['rule']['false_accept']:.1%}"
        lines.append(
            f"{row['name']:<44}{row['auroc']:>7.3f}{row['false_accept_at_95']:>14.1%}{rule:>26}"
        )
    without = rows[2:]
    if without:
        area, share = (
            np.mean([row[each] for row in without]) for each in ("auroc", "false_accept_at_95")
        )
        lines.append(f"{'mean without a class':<44}{area:>7.3f}{share:>14.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
