"""Compare `retrain train` with the classic script: `python -m bench.experiments.classic DIR...`.

By turns, each in a process of its own, timed from its start to its end: the published procedure,
as `bench.experiments.classic_script` writes it, and `retrain train` with its defaults. Both have
the same backbone, photos, split, steps and size of batch; with `--precision int8` `retrain`
analyses photos with the int8 trunk instead. What each begins with, by state:

- empty: `retrain` an empty cache. The script the frozen backbone, and no bottleneck.
- backbone: `retrain` the backbone that a training on a few photos prepared, and nothing of these
  photos. The script the same as above.
- prepared: `retrain` all that a training on these photos keeps of the backbone, and no bottleneck
  or picture. The script the same as above.
- cached: all bottlenecks, both.

In a round one run of the script without bottlenecks is compared with each of the first three.
Before the rounds both run once, which is not counted: files are then in the system's memory.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.experiments.extract import copy_some
from bench.experiments.shared import (
    folders_argument,
    json_option,
    retrain,
    run,
    run_module,
    save,
)
from bench.machine import read_state
from deploy.system.terminal import say_table
from retrain import backbones
from retrain.settings.training import HeadSettings

CACHED = "cached"
STATES = ("empty", "backbone", "prepared", CACHED)
BACKBONE = "efficientnet_lite0"
_FEW_STEPS = 10

Row = dict[str, Any]


@click.command()
@folders_argument
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--states",
    default=",".join(STATES),
    show_default=True,
    help="Some of them, with commas between.",
    callback=lambda _context, _parameter, text: _read_states(text),
)
@click.option(
    "--steps",
    default=HeadSettings().how_many_training_steps,
    show_default=True,
    type=click.IntRange(1),
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    type=click.Choice(("float32", "int8")),
    help="The precision in which `retrain train` analyses photos.",
)
@json_option
def main(
    folders: tuple[Path, ...],
    rounds: int,
    states: tuple[str, ...],
    steps: int,
    precision: str,
    output: Path | None,
) -> None:
    """Print seconds of both on each DIR, and how many times as fast `retrain train` is."""
    measured: list[Row] = []
    for folder in folders:
        with TemporaryDirectory(prefix="retrain-") as temporary:
            comparison = Comparison(folder, Path(temporary), steps, precision)
            rows = [
                row for number in range(1, rounds + 1) for row in comparison.round(number, states)
            ]
        measured.append({"folder": folder.name, "photos": comparison.photos, "rows": rows})
        if output:  # after each folder: a large one takes an hour
            about = {"backbone": BACKBONE, "steps": steps, "precision": precision}
            save(output, {**about, "measured": measured})
        say_table(table(measured[-1]))


class Comparison:
    """Both programs, prepared on the photos of `folder`; their files are below `place`."""

    def __init__(self, folder: Path, place: Path, steps: int, precision: str) -> None:
        """Run both once, and keep what they cache."""
        self.folder, self.place, self.steps, self.precision = folder, place, steps, precision
        self._numbers = count()
        self._train(copy_some(folder, place / "few"), place / "few-cache", _FEW_STEPS)
        metrics, run_folder = self._train(folder, place / "cache", _FEW_STEPS)
        self.photos = sum(metrics["photos"].values())
        self._manifest = run_folder / "manifest.csv"
        backbone = backbones.load(BACKBONE, place / "cache")
        self._graph = shutil.copy(backbone.graph_path, place / "backbone.pb")
        self._pixels = ("--mean", str(backbone.spec.mean), "--std", str(backbone.spec.std))
        self._classic(place / "classic", _FEW_STEPS)

    def round(self, number: int, states: Sequence[str]) -> list[Row]:
        """Return a row for each of `states`: seconds of both programs, and their accuracies."""
        rows: list[Row] = []
        for is_cached in (False, True):
            for state in (state for state in states if (state == CACHED) == is_cached):
                if not rows or is_cached:
                    classic = self._time_classic(is_cached)
                rows.append(
                    {
                        "round": number,
                        "state": state,
                        "classic": classic,
                        "retrain": self._time_retrain(state),
                    }
                )
        return rows

    def _time_classic(self, is_cached: bool) -> Row:
        folder = self.place / "classic"
        if not is_cached:
            folder = self._new_folder()
        clock = Clock()
        result = self._classic(folder, self.steps)
        return {**clock.read(), "accuracy": result["accuracy"], "stages": result["seconds"]}

    def _time_retrain(self, state: str) -> Row:
        cache = self.place / "cache"
        if state != CACHED:
            source = {"backbone": self.place / "few-cache", "prepared": cache}.get(state)
            cache = self._new_folder()
            if source:
                shutil.copytree(source / "backbones", cache / "backbones")
        clock = Clock()
        metrics, _ = self._train(self.folder, cache, self.steps)
        figures = clock.read()
        return {**figures, "accuracy": metrics["test"]["accuracy"], "stages": metrics["seconds"]}

    def _classic(self, folder: Path, steps: int) -> Row:
        result: Row = json.loads(
            run_module(
                "bench.experiments.classic_script",
                *(str(self._graph), str(self._manifest), str(folder)),
                *(*self._pixels, "--steps", str(steps)),
            )
        )
        return result

    def _train(self, folder: Path, cache: Path, steps: int) -> tuple[Row, Path]:
        run_folder = self._new_folder()
        where = ("--output-dir", str(run_folder), "--cache-dir", str(cache))
        options = ("--architecture", BACKBONE, "--how-many-training-steps", str(steps))
        precision = ("--extract-precision", self.precision)
        return retrain("train", str(folder), *where, *options, *precision), run_folder

    def _new_folder(self) -> Path:
        folder = self.place / str(next(self._numbers))
        folder.mkdir()
        return folder


class Clock:
    """Measures wall-clock seconds from its creation, and the CPU seconds of child processes."""

    def __init__(self) -> None:
        self._load = read_state().load
        self._cpu, self._start = _cpu_of_children(), time.perf_counter()

    def read(self) -> Row:
        """Return both kinds of seconds, and the load of the minute before its creation."""
        seconds = time.perf_counter() - self._start
        cpu_s = _cpu_of_children() - self._cpu
        return {"load_before": self._load, "seconds": seconds, "cpu_s": cpu_s}


def summarise(rows: Sequence[Row]) -> dict[str, Row]:
    """Return by state the medians of seconds and of the rounds' ratios, and mean accuracies."""
    by_state: dict[str, list[Row]] = {}
    for row in rows:
        by_state.setdefault(row["state"], []).append(row)
    return {
        state: {
            "rounds": len(of_state),
            "ratio": median(_ratio(row, "seconds") for row in of_state),
            "cpu_ratio": median(_ratio(row, "cpu_s") for row in of_state),
            **{
                name: {
                    "seconds": median(row[name]["seconds"] for row in of_state),
                    "cpu_s": median(row[name]["cpu_s"] for row in of_state),
                    "accuracy": mean(row[name]["accuracy"] for row in of_state),
                }
                for name in ("classic", "retrain")
            },
        }
        for state, of_state in by_state.items()
    }


def table(measured: Row) -> str:
    """Return each run of a folder, then the summary of each state."""
    lines = [
        f"{measured['folder']}: {measured['photos']} photos",
        f"{'round':<7}{'state':<10}{'classic s':>11}{'retrain s':>11}{'times':>8}{'in CPU s':>10}",
    ]
    for row in measured["rows"]:
        lines.append(
            f"{row['round']:<7}{row['state']:<10}"
            f"{row['classic']['seconds']:>11.1f}{row['retrain']['seconds']:>11.1f}"
            f"{_ratio(row, 'seconds'):>8.1f}{_ratio(row, 'cpu_s'):>10.1f}"
        )
    for state, summary in summarise(measured["rows"]).items():
        classic, ours = summary["classic"], summary["retrain"]
        lines.append(
            f"{'median':<7}{state:<10}{classic['seconds']:>11.1f}{ours['seconds']:>11.1f}"
            f"{summary['ratio']:>8.1f}{summary['cpu_ratio']:>10.1f}"
            f"  test accuracy {classic['accuracy']:.1%}, {ours['accuracy']:.1%}"
        )
    return "\n".join(lines)


def _ratio(row: Row, figure: str) -> float:
    return float(row["classic"][figure] / row["retrain"][figure])


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _read_states(text: str) -> tuple[str, ...]:
    states = tuple(text.split(","))
    unknown = [state for state in states if state not in STATES]
    if unknown:
        raise click.BadParameter(f"no state {', '.join(unknown)}: there are {', '.join(STATES)}")
    return states


if __name__ == "__main__":
    run(main)
