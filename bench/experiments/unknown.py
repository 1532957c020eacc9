"""Measure how well photos of something else are rejected.

`python -m bench.experiments.unknown DIR OTHER`: a model of DIR gets the photos of OTHER, one of
OTHER those of DIR, and for each class of DIR a model of its other classes gets that one. The
product's own commands do the work; known photos are those of the test split, and the score is
that of the best label.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt

from bench.experiments.shared import NO_BOUNDS, json_option, retrain, retrain_text, run, save
from deploy.system.terminal import say, say_table

Row = dict[str, Any]
Values = npt.NDArray[np.float64]
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_TRUE_ACCEPT_SHARE = 0.95


class Scores(NamedTuple):
    """The score of the best label of each photo, and whether it was labelled unknown, (N,)."""

    best: Values
    unknown: npt.NDArray[np.bool_]


@click.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.argument("other", metavar="OTHER", type=_FOLDER)
@click.option("--reject-rate", default=0.05, show_default=True, type=click.FloatRange(0, 1))
@click.option("--salt", default="", help="The salt of the split.")
@json_option
def main(folder: Path, other: Path, reject_rate: float, salt: str, output: Path | None) -> None:
    """Measure what `retrain convert --reject-rate` gives; a rate of 0 is the plain model's score.

    Prints AUROC, the share of unknown photos that are accepted at a threshold that accepts 95% of
    the known ones, and the shares that the model's own threshold accepts.
    """
    rows: list[Row] = []

    def measure(name: str, known_photos: Path, unknown_photos: Path) -> None:
        with TemporaryDirectory(prefix="retrain-") as temporary:
            rows.append(
                {
                    "name": name,
                    **_measure(known_photos, unknown_photos, reject_rate, salt, temporary),
                }
            )
        if output:  # after each row: each takes minutes
            save(output, {"reject_rate": reject_rate, "salt": salt, "rows": rows})
        say(f"measured: {name}", err=True)

    measure(f"{folder.name}, photos of {other.name}", folder, other)
    measure(f"{other.name}, photos of {folder.name}", other, folder)
    labels = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for label in labels if len(labels) > 2 else []:  # one class alone cannot be trained
        with TemporaryDirectory(prefix="retrain-") as temporary:
            for other_label in labels:
                if other_label != label:
                    copytree(folder / other_label, Path(temporary, other_label))
            measure(f"{folder.name} without {label}, its photos", Path(temporary), folder / label)
    say_table(table(rows))


def _measure(
    known_photos: Path, unknown_photos: Path, rate: float, salt: str, run_folder: str
) -> Row:
    where = ("--output-dir", run_folder)
    retrain("train", str(known_photos), "--split-salt", salt, *where)
    result = retrain("convert", *where, *NO_BOUNDS, "--reject-rate", str(rate))
    with Path(run_folder, "manifest.csv").open(encoding="utf-8", newline="") as stream:
        testing = [row["path"] for row in csv.DictReader(stream) if row["split"] == "testing"]
    model = str(Path(run_folder, "model.tflite"))
    figures = assess(_label(model, testing), _label(model, [str(unknown_photos)]))
    return {"accuracy": result["model"]["accuracy"], "rejection": result["rejection"], **figures}


def _label(model: str, photos: Sequence[str]) -> Scores:
    options = ("--json", "--top", "1", "--model", model)
    rows = [json.loads(line) for line in retrain_text("label", *options, *photos).splitlines()]
    unknown = np.array([row["unknown"] for row in rows])
    scores = np.array([row["scores"][0] for row in rows])
    return Scores(np.where(unknown, 1 - scores, scores), unknown)


def assess(known_scores: Scores, unknown_scores: Scores) -> Row:
    """Return AUROC, false accepts at 95% true accepts, and both by the model's own threshold.

    The threshold for 95% is the lowest score of the 95% of known photos that score highest.
    """
    threshold = np.quantile(known_scores.best, 1 - _TRUE_ACCEPT_SHARE, method="lower")
    return {
        "known": len(known_scores.best),
        "unknown": len(unknown_scores.best),
        "auroc": auroc(known_scores.best, unknown_scores.best),
        "false_accept_at_95": float(np.mean(unknown_scores.best >= threshold)),
        "rule": {
            "true_accept": float(1 - np.mean(known_scores.unknown)),
            "false_accept": float(1 - np.mean(unknown_scores.unknown)),
        },
    }


def auroc(known_scores: Values, unknown_scores: Values) -> float:
    """Return the share of pairs in which the known photo scores higher; a tie counts half."""
    ordered = np.sort(unknown_scores)
    below = np.searchsorted(ordered, known_scores, "left") + np.searchsorted(
        ordered, known_scores, "right"
    )
    return float(below.mean() / 2 / len(unknown_scores))


def table(rows: Sequence[Row]) -> str:
    """Return a line for each row, and the mean of the rows that leave out a class."""
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
            np.mean([row[name] for row in without]) for name in ("auroc", "false_accept_at_95")
        )
        lines.append(f"{'mean without a class':<44}{area:>7.3f}{share:>14.1%}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
