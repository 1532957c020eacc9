"""Draw records of bench.json: the time of calls, and accuracy against time."""

import math
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from bench.match_runners import runners_by_key
from bench.record import BenchRecord, RunnerRecord
from deploy import files
from deploy.errors import BadData, MissingPackage, WrongUse
from deploy.system.counts import with_noun

FORMATS = (".png", ".svg")
_MIN_ACCURACY_RANGE = 10
"""Percentage points that the axis of accuracy spans at least."""
_MIN_TICKS = 4
_TICKS_OF_DECADE = (
    (1,),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    tuple(i / 10 for i in range(10, 100)),
)
"""Choices of ticks from 1 to 10; the first with enough ticks is used."""


def check(path: Path) -> None:
    """Make the folder of the picture `path`.

    Raises WrongUse if `path` has another ending, MissingPackage without matplotlib, BadData and
    OSError if the folder cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise WrongUse(f"{path}: a plot is a {' or a '.join(FORMATS)} file")
    if find_spec("matplotlib") is None:
        raise MissingPackage("a plot needs matplotlib: pip install 'retrain-tflite[plot]'")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise BadData(f"{path.parent}: this folder cannot be written into")


class _Row(NamedTuple):
    """A runner, its name in the plot and the colour of its model."""

    runner: RunnerRecord
    name: str
    colour: str


def draw(records: Sequence[BenchRecord], path: Path) -> None:
    """Draw all runners of all records into the file `path`, PNG or SVG by its ending."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = _rows(records)
    scored = [row for row in rows if row.runner.accuracy is not None]
    panels = 2 if scored else 1
    # Text stays text in an SVG, and the same figures give the same file.
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9}
    style["text.parse_math"] = False  # a name may hold two dollar signs
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7 * panels, 1.6 + 0.36 * max(len(rows), 8)), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _distributions(axes[0], rows)
        if scored:
            _accuracies(axes[1], scored)
        figure.suptitle(_title(records))
        with files.atomic(path) as stream:
            form = path.suffix[1:].lower()
            metadata = {"Date": None} if form == "svg" else None
            figure.savefig(stream, format=form, dpi=150, metadata=metadata)


def _title(records: Sequence[BenchRecord]) -> str:
    cpus = [
        f"{record.machine.cpu}, {with_noun(record.machine.cores, 'core')}" for record in records
    ]
    if len(cpus) == 1:
        return cpus[0]
    return "   ".join(f"[{i + 1}] {cpu}" for i, cpu in enumerate(cpus))


def _rows(records: Sequence[BenchRecord]) -> list[_Row]:
    """Return all runners; a model has one colour, in all records and in both panels."""
    by_record = runners_by_key(records)
    models = list(dict.fromkeys(key.model for runners in by_record for key in runners))
    rows = []
    for i, runners in enumerate(by_record):
        record = f"[{i + 1}] " if len(records) > 1 else ""
        for key, runner in runners.items():
            where = ", ".join(filter(None, (f"{runner.runtime} {runner.version}", key.python)))
            star = "* " if runner.is_busy else ""
            name = f"{star}{record}{key.model}, {where}, {key.threads} thr."
            rows.append(_Row(runner, name, f"C{models.index(key.model) % 10}"))
    return rows


def _distributions(axes: Any, rows: list[_Row]) -> None:
    samples = [
        [sample / 1e6 for samples_ns in row.runner.samples_ns for sample in samples_ns]
        for row in rows
    ]
    boxes = axes.boxplot(
        samples,
        orientation="horizontal",
        tick_labels=[row.name for row in rows],
        whis=(1, 99),
        showfliers=False,
        patch_artist=True,
        medianprops={"color": "black"},
        widths=0.6,
    )
    for box, row in zip(boxes["boxes"], rows, strict=True):
        box.set_facecolor(row.colour)
    axes.set_xscale("log")
    axes.invert_yaxis()  # the first model on top, as in the table
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    _plain_ticks(axes)
    busy = "; * busy machine" if any(row.runner.is_busy for row in rows) else ""
    axes.set_xlabel(f"ms a call: quartiles and median, whiskers at 1% and 99%{busy}")


def _accuracies(axes: Any, scored: list[_Row]) -> None:
    fastest: dict[str, _Row] = {}
    for row in scored:
        key = row.name.removeprefix("* ").rpartition(", ")[0]  # without the threads
        if key not in fastest or row.runner.ms.p50 < fastest[key].runner.ms.p50:
            fastest[key] = row
    runtimes = dict.fromkeys(row.runner.runtime for row in fastest.values())
    marks = dict(zip(runtimes, "os^D", strict=False))
    for row in fastest.values():
        percent = 100 * (row.runner.accuracy or 0)
        interval = row.runner.accuracy_interval95
        axes.errorbar(
            row.runner.ms.p50,
            percent,
            # At least 0: rounding may make a length negative.
            yerr=interval
            and [[max(0, percent - 100 * interval[0])], [max(0, 100 * interval[1] - percent)]],
            color=row.colour,
            marker=marks[row.runner.runtime],
            markersize=8,
            linestyle="none",
            alpha=0.8,
            elinewidth=1,
            capsize=3,
            label=row.name,
        )
    axes.set_xscale("log")
    axes.margins(0.15)
    low, high = axes.get_ylim()
    half = max(high - low, _MIN_ACCURACY_RANGE) / 2  # a difference of one photo looks small
    axes.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    axes.grid(alpha=0.3)
    _plain_ticks(axes)
    axes.set_xlabel("ms a call, p50, at the number of threads that is fastest")
    axes.set_ylabel("test accuracy, %, with its 95% interval")
    # Below the plot, where it hides no intervals.
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _plain_ticks(axes: Any) -> None:
    """Label the axis with numbers such as 2 and 20; a plot may span less than a power of ten."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    low, high = axes.get_xlim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    for steps in _TICKS_OF_DECADE:
        candidates = [step * 10.0**i for i in decades for step in steps]
        ticks = [tick for tick in candidates if low <= tick <= high]
        if len(ticks) >= _MIN_TICKS:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
