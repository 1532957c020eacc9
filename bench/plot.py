"""A record of bench.json as a picture: how long calls take, and what accuracy that buys."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deploy import files
from deploy.errors import MissingPackage, WrongUse

FORMATS = (".png", ".svg")
_LEAST_POINTS = 10
"""Of accuracy, from the bottom to the top of a plot."""


def check(path: Path) -> None:
    """Raise WrongUse if `path` has another name, MissingPackage without matplotlib."""
    if path.suffix.lower() not in FORMATS:
        raise WrongUse(f"{path}: a plot is a {' or a '.join(FORMATS)} file")
    if find_spec("matplotlib") is None:
        raise MissingPackage("a plot needs matplotlib: pip install 'retrain-tflite[plot]'")


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Write the picture `path`, PNG or SVG by its name, of all runners of all records."""
    import matplotlib
    from matplotlib.figure import Figure

    runners = [
        (each, f"[{i + 1}] " if len(records) > 1 else "")
        for i, record in enumerate(records)
        for each in record["runners"]
    ]
    scored = [(each, mark) for each, mark in runners if each["accuracy"] is not None]
    panels = 2 if scored else 1
    # Text stays text in an SVG, and the same figures give the same file.
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(
            figsize=(7 * panels, 1.6 + 0.36 * max(len(runners), 8)), layout="constrained"
        )
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _distributions(axes[0], runners)
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


def _colours(runners: list[tuple[dict[str, Any], str]]) -> dict[str, str]:
    """Return a colour for each model, so that it has the same one in both panels."""
    models = dict.fromkeys(each["model"] for each, _ in runners)
    return {model: f"C{i % 10}" for i, model in enumerate(models)}


def _distributions(axes: Any, runners: list[tuple[dict[str, Any], str]]) -> None:
    colours = _colours(runners)
    samples = [
        [sample / 1e6 for turn in each["rounds"] for sample in turn["samples_ns"]]
        for each, _ in runners
    ]
    names = [
        f"{mark}{each['model']}, {each['runtime']}, {each['threads']} thr."
        for each, mark in runners
    ]
    boxes = axes.boxplot(
        samples,
        orientation="horizontal",
        tick_labels=names,
        whis=(1, 99),
        showfliers=False,
        patch_artist=True,
        medianprops={"color": "black"},
        widths=0.6,
    )
    for box, (each, _) in zip(boxes["boxes"], runners, strict=True):
        box.set_facecolor(colours[each["model"]])
    axes.set_xscale("log")
    axes.invert_yaxis()  # the first model on top, as in the table
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.set_axisbelow(True)
    _plain_ticks(axes)
    axes.set_xlabel("ms a call: quartiles and median, whiskers at 1% and 99%")


def _accuracies(axes: Any, scored: list[tuple[dict[str, Any], str]]) -> None:
    colours = _colours(scored)
    fastest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each, mark in scored:
        key = (mark, each["model"], each["runtime"])
        if key not in fastest or each["ms"]["p50"] < fastest[key]["ms"]["p50"]:
            fastest[key] = each
    marks = dict(zip(dict.fromkeys(key[2] for key in fastest), "os^D", strict=False))
    for (mark, model, runtime), each in fastest.items():
        axes.scatter(
            each["ms"]["p50"],
            each["accuracy"] * 100,
            s=60,
            color=colours[model],
            marker=marks[runtime],
            label=f"{mark}{model}, {runtime}, {each['threads']} thr.",
        )
    axes.set_xscale("log")
    axes.margins(0.15)
    low, high = axes.get_ylim()
    half = max(high - low, _LEAST_POINTS) / 2  # one photo should not look like much
    axes.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    axes.grid(which="both", alpha=0.3)
    _plain_ticks(axes)
    axes.set_xlabel("ms a call, p50, at the number of threads that is fastest")
    axes.set_ylabel("test accuracy, %")
    axes.legend(fontsize=8)


def _plain_ticks(axes: Any) -> None:
    """Write 2 and 20 instead of powers of ten: a plot may span less than one of them."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
