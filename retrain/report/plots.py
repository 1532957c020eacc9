"""Draw the plots of a report as SVG elements that take the page's colours."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from deploy.system.counts import with_noun
from deploy.versioned_json import Fields
from retrain.predictions import Prediction
from retrain.report.learning_curve import LearningCurve

_INK, _FAINT, _ACCENT = "#010101", "#020202", "#030303"
"""Stand for the page's colours, in light and dark."""
_VARIABLES = {_INK: "var(--ink-2)", _FAINT: "var(--line)", _ACCENT: "var(--accent)"}
_SIZE_INCHES = (4.8, 2.8)
_PLACE = (0.155, 0.19, 0.815, 0.76)
"""Left, bottom, width and height of the axes: to measure texts would take as long as to draw."""
_CALIBRATION_BINS = 10
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Plot:
    """An SVG element, and its caption in words."""

    svg: str
    caption: str


def _draw(name: str, title: str, caption: str, paint: Callable[[Any], None]) -> Plot:
    """Return what `paint` draws into axes; `name` begins the identifiers of its elements."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE_INCHES)
        paint(figure.add_axes(_PLACE))
        content = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(content, format="svg", transparent=True, metadata=metadata)
    return Plot(_as_element(content.getvalue(), name, title, caption), caption)


def _as_element(svg: str, name: str, title: str, caption: str) -> str:
    """Return matplotlib's document as an element of a page that may hold others like it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    # The page's own font.
    svg = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", svg)
    view_box = re.search(r'viewBox="[^"]+"', svg)
    start = (
        f'<svg {view_box.group() if view_box else ""} role="img" aria-labelledby="{name}-title '
        f'{name}-caption" class="plot" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-caption">{escape(caption)}</desc>'
    )
    return start + svg[svg.index(">") + 1 :]


def curves(name: str, stage: Fields, unit: str) -> list[Plot]:
    """Return the plots of accuracy and cross entropy of a stage of training, by `unit`."""
    steps = stage.numbers("step")
    plots = []
    for figure, title, factor in (
        ("accuracy", "Accuracy in %", 100),
        ("cross_entropy", "Cross entropy in nats", 1),
    ):
        train = [factor * value for value in stage.numbers(f"train_{figure}")]
        validation = [factor * value for value in stage.numbers(f"validation_{figure}")]

        def paint(
            axes: Any, train: Any = train, validation: Any = validation, title: str = title
        ) -> None:
            mark = "o" if len(steps) < 3 else None
            axes.plot(steps, train, color=_INK, linewidth=1, linestyle="--", marker=mark)
            axes.plot(steps, validation, color=_ACCENT, linewidth=1.8, marker=mark)
            axes.legend(["training", "validation"])
            axes.set_xlabel(unit)
            axes.set_ylabel(title.lower(), labelpad=2)

        caption = (
            f"{title} after the last {unit.rstrip('s')}: training {train[-1]:.3g}, validation "
            f"{validation[-1]:.3g}. Training far better than validation means that the photos are "
            "learned by heart: more photos help."
        )
        plots.append(_draw(f"{name}-{figure}", title, caption, paint))
    return plots


def calibration(rows: Sequence[Prediction]) -> Plot:
    """Return the plot of how often the network is right, by the probability that it gives."""
    probability = np.array([row.probability for row in rows])
    right = np.array([row.is_right for row in rows])
    bins = np.clip(np.ceil(probability * _CALIBRATION_BINS) - 1, 0, _CALIBRATION_BINS - 1)
    used = [number for number in range(_CALIBRATION_BINS) if (bins == number).any()]
    means = [100 * probability[bins == number].mean() for number in used]
    shares = [100 * right[bins == number].mean() for number in used]
    counts = [int((bins == number).sum()) for number in used]

    def paint(axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=_INK, linewidth=1, linestyle="--")
        sizes = 25 + 300 * np.array(counts) / sum(counts)
        axes.scatter(means, shares, s=sizes, color=_ACCENT, zorder=3, clip_on=False)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 103)
        axes.set_xlabel("probability of the best label, %")
        axes.set_ylabel("right, %", labelpad=2)

    caption = (
        "A point on the dashed line means what it says: of the photos with 80%, 80 in 100 are "
        "right. Below the line the network is too sure. A larger point stands for more photos."
    )
    return _draw("calibration", "Calibration", caption, paint)


def threshold(rows: Sequence[Prediction], present: float | None) -> Plot:
    """Return the plot of what a threshold does: photos called unknown, and accuracy of the rest."""
    probability = np.array([row.probability for row in rows])
    right = np.array([row.is_right for row in rows])
    order = np.argsort(-probability, kind="stable")
    answered = np.arange(1, len(rows) + 1) / len(rows)
    accuracy = np.cumsum(right[order]) / np.arange(1, len(rows) + 1)

    def paint(axes: Any) -> None:
        axes.plot(100 * (1 - answered), 100 * accuracy, color=_ACCENT, linewidth=1.8)
        if present is not None:
            unknown = 100 * float(np.mean(probability < present))
            axes.axvline(unknown, color=_INK, linewidth=1, linestyle="--")
        axes.set_xlim(0, 100)
        low = 100 * float(accuracy.min())
        axes.set_ylim(min(90, low) - 2, 101)
        axes.set_xlabel("test photos called unknown, %")
        axes.set_ylabel("right of the rest, %", labelpad=2)

    lines = []
    for share in (0.05, 0.1, 0.2):
        left = max(1, len(rows) - int(share * len(rows)))
        least = probability[order][left - 1]
        lines.append(
            f"with the least sure {share:.0%} left out (threshold {least:.2f}) "
            f"{accuracy[left - 1]:.1%} of the rest are right"
        )
    caption = f"All answered: {accuracy[-1]:.1%} are right; {'; '.join(lines)}."
    if present is not None:
        caption += f" The dashed line is the model's own threshold, {present:.2f}."
    return _draw("threshold", "The threshold for unknown", caption, paint)


def learning(curve: LearningCurve) -> Plot:
    """Return the plot of accuracy by the number of training photos, and its continuation."""
    photos = [point.photos for point in curve.points]
    accuracy = 100 * (1 - curve.total_errors)
    later = 100 * (1 - curve.errors_with_twice()[0])

    def paint(axes: Any) -> None:
        from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

        axes.plot(photos, accuracy, color=_ACCENT, linewidth=1.8, marker="o")
        axes.plot(
            [photos[-1], 2 * photos[-1]],
            [accuracy[-1], later],
            color=_INK,
            linewidth=1,
            linestyle="--",
            marker="o",
            markerfacecolor="none",
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([*photos[:-2], photos[-1], 2 * photos[-1]]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel("training photos")
        axes.set_ylabel("right, %", labelpad=2)

    caption = (
        f"With {with_noun(photos[0], 'training photo')} {accuracy[0]:.1f}% of "
        f"{sum(curve.held_out)} others are right, with all {photos[-1]} {accuracy[-1]:.1f}%. "
        f"Continued, twice as many give about {later:.1f}%."
    )
    return _draw("learning", "Accuracy by the number of training photos", caption, paint)
