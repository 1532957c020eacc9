"""A record of bench.json as a picture: how long calls take, and what accuracy that buys."""

import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from bench.record import is_busy, keyed
from deploy import files
from deploy.errors import BadData, MissingPackage, WrongUse

FORMATS = (".png", ".svg")
_LEAST_POINTS = 10
"""Of accuracy, from the bottom to the top of a plot."""
_LEAST_TICKS = 4
_STEPS = (
    (1,),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    tuple(i / 10 for i in range(10, 100)),
)
"""In a decade: the first of them with enough ticks is taken."""


def check(path: Path) -> None:
    """Make the folder of `path`, which is drawn once all else is done.

    Raises WrongUse if `path` has another name, MissingPackage without matplotlib, BadData and
    OSError where nothing can be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise WrongUse(f"{path}: a plot is a {' or a '.join(FORMATS)} file")
    if find_spec("matplotlib") is None:
        raise MissingPackage("a plot needs matplotlib: pip install 'retrain-tflite[plot]'")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise BadData(f"{path.parent}: this folder cannot be written into")


class _Row(NamedTuple):
    """A runner with what it is called and the colour of its model."""

    runner: dict[str, Any]
    name: str
    colour: str


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Write the picture `path`, PNG or SVG by its name, of all runners of all records."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = _rows(records)
    scored = [row for row in rows if row.runner["accuracy"] is not None]
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


def _title(records: list[dict[str, Any]]) -> str:
    cpus = [f"{record['machine']['cpu']}, {record['machine']['cores']} cores" for record in records]
    if len(cpus) == 1:
        return cpus[0]
    return "   ".join(f"[{i + 1}] {cpu}" for i, cpu in enumerate(cpus))


def _rows(records: list[dict[str, Any]]) -> list[_Row]:
    """Return all runners; a model has one colour, in all records and in both panels."""
    runners = keyed(records)
    models = list(dict.fromkeys(key.model for each in runners for key in each))
    rows = []
    for i, found in enumerate(runners):
        record = f"[{i + 1}] " if len(records) > 1 else ""
        for key, each in found.items():
            where = ", ".join(filter(None, (f"{each['runtime']} {each['version']}", key.python)))
            star = "* " if is_busy(each) else ""
            name = f"{star}{record}{key.model}, {where}, {key.threads} thr."
            rows.append(_Row(each, name, f"C{models.index(key.model) % 10}"))
    return rows


def _distributions(axes: Any, rows: list[_Row]) -> None:
    samples = [
        [sample / 1e6 for turn in row.runner["rounds"] for sample in turn["samples_ns"]]
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
    busy = "; * busy machine" if any(is_busy(row.runner) for row in rows) else ""
    axes.set_xlabel(f"ms a call: quartiles and median, whiskers at 1% and 99%{busy}")


def _accuracies(axes: Any, scored: list[_Row]) -> None:
    fastest: dict[str, _Row] = {}
    for row in scored:
        key = row.name.removeprefix("* ").rpartition(", ")[0]  # all but the threads
        if key not in fastest or row.runner["ms"]["p50"] < fastest[key].runner["ms"]["p50"]:
            fastest[key] = row
    runtimes = dict.fromkeys(row.runner["runtime"] for row in fastest.values())
    marks = dict(zip(runtimes, "os^D", strict=False))
    for row in fastest.values():
        percent = 100 * row.runner["accuracy"]
        interval = row.runner["accuracy_interval95"]
        axes.errorbar(
            row.runner["ms"]["p50"],
            percent,
            # Not below 0, for which rounding is enough.
            yerr=interval
            and [[max(0, percent - 100 * interval[0])], [max(0, 100 * interval[1] - percent)]],
            color=row.colour,
            marker=marks[row.runner["runtime"]],
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
    half = max(high - low, _LEAST_POINTS) / 2  # one photo should not look like much
    axes.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    axes.grid(alpha=0.3)
    _plain_ticks(axes)
    axes.set_xlabel("ms a call, p50, at the number of threads that is fastest")
    axes.set_ylabel("test accuracy, %, with its 95% interval")
    # Below: within, it would hide intervals.
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _plain_ticks(axes: Any) -> None:
    """Write 2 and 20, not powers of ten, and enough of them: a plot may span less than one."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    low, high = axes.get_xlim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    for steps in _STEPS:
        ticks = [step * 10.0**i for i in decades for step in steps]
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) >= _LEAST_TICKS:
            break
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
