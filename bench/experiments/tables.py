"""Make the tables of docs/measurements, in Markdown, from the results of the experiments."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from bench.experiments import advice, classic, doctor
from bench.experiments.fine_tuning import cell, summarise
from bench.stats import student_quantile

RESULTS = Path(__file__).parent / "results"
_BACKBONES = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite1": "EfficientNet-Lite1",
    "efficientnet_lite2": "EfficientNet-Lite2",
    "mobilenet_v2": "MobileNetV2",
}
_PHOTOS = {"solar-cells": "solar cells", "photos": "solar cells"}
"""Names of folders that were measured, where they are not the photos' own."""
_DEVICE_ROWS = {
    "classify": "a 320x240 JPEG, `Classifier.classify`",
    "bare": "the same calls of Pillow and the runtime alone",
    "classify 12 MP": "a 12-megapixel JPEG, `Classifier.classify`",
    "decode 12 MP": "its decoding alone, at 1/8",
    "classify, 2 threads": "the 320x240 JPEG on two threads",
}

Row = Sequence[str]


def accuracy() -> str:
    """Return accuracies of graph and int8 model, over splits."""
    return _accuracies("accuracy")


def trunk_precision() -> str:
    """Return accuracies with bottlenecks of float32 and of the int8 trunk, over splits."""
    return _accuracies("precision")


def _accuracies(prefix: str) -> str:
    """Return the accuracies in the files PREFIX-solar-cells and PREFIX-flowers."""
    rows = []
    for name in ("solar-cells", "flowers"):
        for measured in _read(f"{prefix}-{name}")["recipes"].values():
            means, errors = measured["mean"], measured["standard_error"]
            rows.append(
                [
                    _PHOTOS.get(name, name),
                    _options(measured["train"]),
                    str(len(measured["salts"])),
                    f"{means['graph']:.1%} ± {errors['graph'] * 100:.1f}",
                    f"{means['int8']:.1%} ± {errors['int8'] * 100:.1f}",
                    f"{means['agreement']:.1%}",
                ]
            )
    head = ["photos", "options of `train`", "splits", "graph", "int8", "same best label"]
    return table(head, rows, text_columns=2)


def training_settings() -> str:
    """Return accuracies with several settings of training, less that of the classic ones."""
    flowers, cells = (_read(f"recipes-{name}")["recipes"] for name in ("flowers", "solar-cells"))
    rows = [
        [_options(flowers[name]["train"]), *_against(flowers, name), *_against(cells, name)]
        for name in flowers
    ]
    head = ["options of `train`", "flowers", "less classic", "solar cells", "less classic"]
    return table(head, rows, text_columns=1)


def unknown() -> str:
    """Return how well photos of other things are rejected."""
    rows = [
        [
            row["name"].replace("-", " "),
            f"{row['known']:,}",
            f"{row['unknown']:,}",
            f"{row['auroc']:.3f}",
            f"{row['false_accept_at_95']:.2%}",
            f"{1 - row['rule']['true_accept']:.1%}",
            f"{1 - row['rule']['false_accept']:.1%}",
        ]
        for row in _read("unknown")["rows"]
    ]
    head = [
        "model and photos",
        "known photos",
        "others",
        "AUROC",
        "others accepted where 95% of known are",
        "known called unknown",
        "others called unknown",
    ]
    return table(head, rows, text_columns=1)


def fine_tuning() -> str:
    """Return accuracies with fine-tuning and without it, a row for each network and data set."""
    rows: list[Row] = []
    for path in sorted(RESULTS.glob("fine_tuning*.json"), key=lambda path: path.stem):
        figures = _read(path.stem)
        for measured in figures["measured"]:
            rows += _fine_tuning_rows(figures, measured)
    head = [
        "photos",
        "network",
        "splits",
        "graph",
        "int8",
        "gain of int8, points",
        "same best label",
        "MB",
        "seconds",
        "fine-tuned is kept",
    ]
    return table(head, rows, text_columns=2) if rows else "No result is saved."


def backbones() -> str:
    """Return what each backbone gives and costs, compared on the same splits with the first."""
    measured = sorted(_read("backbones")["rows"], key=lambda row: str(row["backbone"]))
    first = {row["folder"]: row for row in reversed(measured)}
    rows = [
        [
            f"{_PHOTOS.get(row['folder'], row['folder'])} ({row['photos']:,})",
            _BACKBONES[row["backbone"]],
            *(_interval(row, form) for form in ("graph", "int8")),
            _less(row, first[row["folder"]], "int8"),
            f"{row['mean']['agreement']:.1%}",
            " / ".join(f"{row['p50_ms'][form]:.1f}" for form in ("graph", "float32", "int8")),
            " / ".join(f"{row['bytes'][form] / 1e6:.1f}" for form in ("float32", "int8")),
            f"{median(row['photos_per_s']):.0f}",
        ]
        for row in measured
    ]
    head = [
        "photos",
        "backbone",
        "accuracy, graph",
        "accuracy, int8",
        "int8 less Lite0, points",
        "same best label",
        "p50 of graph / float32 / int8, ms",
        "MB of float32 / int8",
        "photos/s",
    ]
    return table(head, rows, text_columns=2)


def recipes() -> str:
    """Return accuracy, size and time of each recipe, one table for each network and data set."""
    return "\n\n".join(
        f"### {row['photos']}, {row['network']}: graph {row['graph']:.1%}\n\n{_recipes(row)}"
        for row in _read("convert-recipes")["measured"]
    )


def int8_forms() -> str:
    """Return int8 with its first layer in float32, and with all layers in int8."""
    rows = [
        [
            _PHOTOS.get(measured["photos"], measured["photos"]),
            f"`{name}`",
            f"{row['accuracy']:.1%}",
            f"{row['drop']:.2f}",
            f"{row['agreement']:.1%}",
            f"{row['times'][0]['ms']['p50']:.1f}",
        ]
        for measured in _read("int8-lite0")["measured"]
        for name, row in measured["recipes"].items()
    ]
    head = ["photos", "recipe", "accuracy", "points below the graph", "same best label", "p50, ms"]
    return table(head, rows, text_columns=2)


def device() -> str:
    """Return what a photo takes besides the network, on two runtimes."""
    measured = [_read("device"), _read("device-tflite-runtime")]
    rows = [
        [what, *(f"{figures['ms'][name]['p50']:.1f} ms" for figures in measured)]
        for name, what in _DEVICE_ROWS.items()
    ]
    first = [f"{median(figures['first_label_s']):.2f} s" for figures in measured]
    rows += [
        ["first label from a cold process", *first],
        ["most memory", *(f"{figures['peak_mb']:.0f} MB" for figures in measured)],
        [
            "growth of memory",
            *(f"{f['growth_mb']:.0f} MB over {f['classifications']:,} photos" for f in measured),
        ],
    ]
    return table(["p50", *(figures["runtime"] for figures in measured)], rows, text_columns=1)


def extraction() -> str:
    """Return how many photos a second each way of running Inception v3 analyses."""
    figures = _read("extract-inception")
    rows = [
        [figures["names"][key], f"{median(rates):.1f}"]
        for key, rates in figures["photos_per_s"].items()
    ]
    return table(["way", "photos/s"], rows, text_columns=1)


def memory() -> str:
    """Return the most memory of each command with Inception v3."""
    figures = _read("extract-inception")
    names = {**figures["names"], "train": "retrain train", "convert": "retrain convert"}
    rows = [[names[key], f"{max(peaks) / 1e3:.2f} GB"] for key, peaks in figures["peak_mb"].items()]
    return table(["command", "most memory"], rows, text_columns=1)


def busy() -> str:
    """Return the seconds of training steps, alone and beside busy processes."""
    rows = [
        [
            str(number),
            f"{pair['quiet_s']:.2f} s",
            f"{pair['busy_s']:.2f} s",
            f"{pair['busy_s'] / pair['quiet_s']:.2f}",
        ]
        for number, pair in enumerate(_read("busy")["pairs"], 1)
    ]
    return table(["pair", "alone", "beside two busy processes", "times as long"], rows)


def classic_script() -> str:
    """Return the seconds of the classic script and of `retrain train`, by state."""
    rows = [
        [
            f"{_PHOTOS.get(measured['folder'], measured['folder'])} ({measured['photos']:,})",
            saved["machine"]["cpu"],
            saved.get("precision", "float32"),
            state,
            str(summary["rounds"]),
            *(f"{summary[name]['seconds']:.1f} s" for name in ("classic", "retrain")),
            f"{summary['ratio']:.1f}",
            *(f"{summary[name]['accuracy']:.1%}" for name in ("classic", "retrain")),
        ]
        for path in sorted(RESULTS.glob("classic*.json"))
        for saved in [_read(path.stem)]
        for measured in saved["measured"]
        for state, summary in classic.summarise(measured["rows"]).items()
    ]
    head = [
        "photos",
        "CPU",
        "analysed in",
        "state",
        "rounds",
        "classic script",
        "`retrain train`",
        "times as fast",
        "test accuracy, classic",
        "test accuracy, `retrain`",
    ]
    return table(head, rows, text_columns=4) if rows else "No result is saved."


def doctor_spoiled() -> str:
    """Return what the doctor and its peers find in spoiled photos: means over the seeds."""
    rows = [
        [
            _PHOTOS.get(measured["photos"], measured["photos"]),
            program,
            *(show(doctor.average(measured["rows"], program)) for show in doctor.COLUMNS.values()),
        ]
        for measured in _read("doctor")["measured"]
        for program in doctor.programs(measured["rows"][0])
    ]
    head = [
        "photos",
        "program",
        "exact copies",
        "near copies",
        "truncated",
        "swapped among the first 5%",
        "called wrong",
        "background",
        "seconds",
    ]
    return table(head, rows, text_columns=2)


def doctor_clean() -> str:
    """Return what the doctor names in photos that nobody spoiled."""
    rows = [
        [
            _PHOTOS.get(measured["photos"], measured["photos"]),
            doctor.clean_line(measured["clean"]),
        ]
        for measured in _read("doctor")["measured"]
    ]
    return table(["photos", "named"], rows, text_columns=2)


def doctor_advice() -> str:
    """Return what setting aside the suggested photos gains, a row for each share of swaps."""
    rows: list[Row] = []
    for path in sorted(RESULTS.glob("doctor-advice*.json"), key=lambda path: path.stem):
        for measured in _read(path.stem)["measured"]:
            summary = advice.summarise(measured["rows"])
            is_swapped = measured["swapped"] > 0
            error = summary.get("share_error", math.nan)
            rows.append(
                [
                    _PHOTOS.get(measured["photos"], measured["photos"]),
                    f"{measured['testing']:g}%",
                    f"{measured['swapped']:g}%",
                    str(summary["seeds"]),
                    *(f"{summary[name]:.1%}" for name in ("clean", "swapped", "mended")),
                    f"{summary['lost']:.2f} ± {summary['lost_error']:.2f}" if is_swapped else "-",
                    f"{summary['gained']:+.2f} ± {summary['gained_error']:.2f}",
                    f"{summary['share']:.0%} ± {100 * error:.0f}" if is_swapped else "-",
                ]
            )
    head = [
        "photos",
        "for the test",
        "swapped",
        "seeds",
        "clean",
        "swapped labels",
        "after the advice",
        "lost, points",
        "gained, points",
        "gained back",
    ]
    return table(head, rows, text_columns=1)


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": accuracy,
    "trunk-precision": trunk_precision,
    "training-settings": training_settings,
    "unknown": unknown,
    "fine-tuning": fine_tuning,
    "backbones": backbones,
    "recipes": recipes,
    "int8-forms": int8_forms,
    "device": device,
    "extraction": extraction,
    "memory": memory,
    "busy": busy,
    "classic-script": classic_script,
    "doctor-spoiled": doctor_spoiled,
    "doctor-clean": doctor_clean,
    "doctor-advice": doctor_advice,
}


def table(head: Row, rows: Sequence[Row], text_columns: int = 0) -> str:
    """Return a table in Markdown; all but the first `text_columns` are aligned to the right."""
    rules = ["---" if i < text_columns else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rules, *rows))


def _fine_tuning_rows(figures: dict[str, Any], measured: dict[str, Any]) -> list[Row]:
    photos = _PHOTOS.get(measured["photos"], measured["photos"])
    if figures["photos_per_class"]:
        photos += f", {figures['photos_per_class']} of each class"
    options = f", {_options([figures['train']])}" if figures["train"] else ""
    rows: list[Row] = []
    splits = len(measured["networks"]["linear"])
    names = {"averaged": f"mean of {figures['average']} runs", "keras": "all layers, plain Keras"}
    for name, summary in summarise(measured["networks"]).items():
        error = f" ± {summary.error:.2f}" if splits > 1 else ""
        rows.append(
            [
                photos,
                names.get(name, name) + options,
                str(splits),
                f"{summary.graph:.1%}",
                cell(summary.int8, ".1%"),
                "-" if name == "linear" else f"{summary.gain:+.2f}{error}",
                cell(summary.agreement, ".1%"),
                cell(summary.megabytes, ".2f"),
                f"{summary.seconds:.0f}",
                f"{summary.fine_tuned} of {summary.comparisons}" if summary.comparisons else "-",
            ]
        )
    return rows


def _recipes(measured: dict[str, Any]) -> str:
    by_name = measured["recipes"]
    # A time that was refused does not name its runtime, but has its place.
    runtimes = next(
        [time["runtime"] for time in row["times"]]
        for row in by_name.values()
        if all("runtime" in time for time in row["times"])
    )
    rows = []
    for name, row in by_name.items():
        low, high = row["interval95"]
        rows.append(
            [
                f"`{name}`",
                f"{row['accuracy']:.1%}",
                f"{low:.1%} to {high:.1%}",
                f"{round(row['drop'], 2) + 0.0:.2f}",
                f"{row['agreement']:.1%}",
                f"{row['bytes'] / 1e6:.2f}",
                *(_time(time) for time in row["times"]),
            ]
        )
    head = ["recipe", "accuracy", "95% interval", "drop", "same best label", "MB", *runtimes]
    return table(head, rows, text_columns=1)


def _time(figures: dict[str, Any]) -> str:
    return "refused" if "refused" in figures else f"{figures['ms']['p50']:.1f} ms"


def _interval(row: dict[str, Any], form: str) -> str:
    half = student_quantile(len(row["salts"]) - 1) * row["standard_error"][form]
    return f"{row['mean'][form]:.1%} ± {half * 100:.1f}"


def _against(measured: dict[str, Any], name: str) -> tuple[str, str]:
    """Return the mean accuracy, and by how many points it is above that of the classic settings."""
    accuracy = f"{measured[name]['mean']['graph']:.1%}"
    return accuracy, _less(measured[name], measured["classic"], "graph")


def _less(row: dict[str, Any], other: dict[str, Any], form: str) -> str:
    """Return by how many points `row` is above `other` on the same splits, with its error."""
    if row is other:
        return "-"
    pairs = zip(row["salts"], other["salts"], strict=True)
    points = [100 * (first[form] - second[form]) for first, second in pairs]
    return f"{mean(points):+.2f} ± {stdev(points) / math.sqrt(len(points)):.2f}"


def _options(options: Sequence[str]) -> str:
    return f"`{' '.join(options)}`" if options else "the defaults"


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
