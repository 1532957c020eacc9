"""Measure what the doctor finds in spoiled photos: `python -m bench.experiments.doctor DIR...`.

A copy of each DIR is spoiled in known ways (`bench.experiments.spoil`), once for each seed, and
`retrain doctor` examines it. Clean photos show what it names without a cause. With --peers-python,
cleanlab and CleanVision get the same copy. `bench.experiments.advice` measures what its advice
brings.
"""

import json
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.experiments import doctor_peers
from bench.experiments.shared import (
    cache_dir_option,
    folders_argument,
    json_option,
    retrain,
    run,
    save,
    seeds_option,
)
from bench.experiments.spoil import Pair, Spoiled, spoil
from deploy.system.terminal import say_table
from retrain.doctor import examine
from retrain.doctor.out_of_fold import all_examples, divide, predict
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings

_FIRST_SHARE = 0.05
"""The share of the photos, first in a ranking, among which swapped labels are looked for."""
_NEAR_KINDS = ("near-copy", "copy-across-classes", "copy-across-splits")

Figures = dict[str, Any]
Names = frozenset[str]


@click.command()
@folders_argument
@seeds_option
@click.option(
    "--peers-python",
    "peers",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Compare with cleanlab and CleanVision, which this Python has.",
)
@cache_dir_option
@json_option
def main(
    folders: tuple[Path, ...],
    seeds: int,
    peers: Path | None,
    cache_dir: Path,
    output: Path | None,
) -> None:
    """Measure precision and recall of the doctor on spoiled copies of each DIR."""
    measured: list[Figures] = []
    for folder in folders:
        record = retrain("doctor", str(folder), "--cache-dir", str(cache_dir))
        natural = frozenset(map(names_of, pairs_named(record, "exact-copy", *_NEAR_KINDS)))
        rows: list[Figures] = []
        measured.append({"photos": folder.name, "rows": rows, "clean": count_kinds(record)})
        for seed in range(1, seeds + 1):
            rows.append(measure_spoiled(folder, seed, peers, cache_dir, natural))
            clean = clean_line(measured[-1]["clean"])
            say_table(f"{folder.name}, seeds 1 to {seed}\n{table(rows)}\nclean: {clean}\n")
            if output:
                save(output, {"measured": measured})


def measure_spoiled(
    folder: Path, seed: int, peers: Path | None, cache_dir: Path, natural: Collection[Names]
) -> Figures:
    """Return the figures of each program, by its name, on a spoiled copy of `folder`.

    Copies that are in `folder` already are `natural`, and do not count.
    """
    with TemporaryDirectory(prefix="retrain-") as temporary:
        photos = Path(temporary, folder.name)
        truth = spoil(folder, photos, seed)
        figures: Figures = {"planted": truth.to_json(), "bordered": truth.bordered}
        source = Source(photos, cache_dir=cache_dir)
        cache = ("--cache-dir", str(cache_dir))
        retrain("bottlenecks", str(photos), *cache)
        start = time.perf_counter()
        record = retrain("doctor", str(photos), *cache)
        figures["retrain"] = score_doctor(truth, record, time.perf_counter() - start, natural)
        if peers:
            figures |= measure_peers(truth, source, peers, Path(temporary), natural)
    return figures


def pairs_named(record: Mapping[str, Any], *kinds: str) -> set[Pair]:
    """Return the pairs of photos in the findings of these kinds."""
    photos = _photos_named(record, *kinds)
    return {
        frozenset((Path(photo["path"]), Path(photo["other"])))
        for photo in photos
        if "other" in photo
    }


def names_of(pair: Pair) -> Names:
    """Return the names of two photos, which a spoiled copy of them has too."""
    return frozenset(path.name for path in pair)


def planted(pairs: Iterable[Pair], natural: Collection[Names]) -> set[Pair]:
    """Return the pairs that are not `natural`."""
    return {pair for pair in pairs if names_of(pair) not in natural}


def _photos_named(record: Mapping[str, Any], *kinds: str) -> list[Mapping[str, Any]]:
    matching = (finding for finding in record["findings"] if finding["kind"] in kinds)
    return [photo for finding in matching for photo in finding["photos"]]


def score_doctor(
    truth: Spoiled, record: Mapping[str, Any], seconds: float, natural: Collection[Names] = ()
) -> Figures:
    """Return precision and recall of each kind of finding, from what `retrain doctor` printed."""
    findings = record["findings"]
    suggested = sum(item["suggested"] for item in findings if item["kind"] == "wrong-label")
    order = [Path(photo["path"]) for photo in _photos_named(record, "wrong-label")]
    unreadable = {Path(photo["path"]) for photo in _photos_named(record, "unreadable")}
    near = planted(pairs_named(record, *_NEAR_KINDS), natural) - truth.exact
    return {
        "seconds": seconds,
        "exact": rates(planted(pairs_named(record, "exact-copy"), natural), truth.exact),
        "near": rates(near, truth.near),
        "missed near copies": sorted(way for pair, way in truth.near.items() if pair not in near),
        "truncated": rates(unreadable, truth.truncated),
        **score_labels(truth, order, order[:suggested], record["photos"]),
        "background": rates(
            {item["photos"][0]["label"] for item in findings if item["kind"] == "background"},
            {truth.bordered},
        ),
    }


def score_labels(
    truth: Spoiled, order: Sequence[Path], wrong: Iterable[Path], photos: int
) -> Figures:
    """Return how many swapped labels are first in `order`, and the rates of those called wrong."""
    first = set(order[: round(_FIRST_SHARE * photos)])
    return {
        "first 5%": len(first & truth.swapped) / len(truth.swapped),
        "wrong label": rates(set(wrong), truth.swapped),
    }


def rates(named: Collection[Any], true: Collection[Any]) -> Figures:
    """Return precision, None if nothing is named, and recall, each 0..1, and the number named."""
    right = len(set(named) & set(true))
    return {
        "precision": right / len(named) if named else None,
        "recall": right / len(true) if true else None,
        "named": len(named),
    }


def measure_peers(
    truth: Spoiled, source: Source, python: Path, folder: Path, natural: Collection[Names]
) -> Figures:
    """Return the figures of cleanlab, by two kinds of probabilities, and of CleanVision."""
    data = examine.load(source, SplitSettings(), Progress(verbosity="ERROR"))
    photos = data.dataset.photos
    examples = all_examples(data)
    arrays = folder / "arrays.npz"
    np.savez(
        arrays,
        probabilities=predict(divide(photos, examples.labels), examples, len(data.labels)),
        labels=examples.labels,
        bottlenecks=examples.store.take(examples.rows[:, 0]),
    )
    output = folder / "peers.json"
    script = str(Path(doctor_peers.__file__))
    command = [str(python), script, str(arrays), str(source.image_dir), str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (the user's Python)
    record = json.loads(output.read_text())
    figures: Figures = {"versions": record["versions"]}
    for name, ranking in record["cleanlab"].items():
        paths = [photos[number].path for number in ranking["order"]]
        wrong = [photos[number].path for number in ranking["wrong"]]
        scores = score_labels(truth, paths, wrong, len(photos))
        figures[f"cleanlab, {name}"] = {"seconds": ranking["seconds"], **scores}
    vision = record["cleanvision"]
    figures["CleanVision"] = {
        "seconds": vision["seconds"],
        "error": vision["error"],
        "exact": rates(planted(pairs_in(vision["exact"]), natural), truth.exact),
        "near": rates(planted(pairs_in(vision["near"]), natural) - truth.exact, truth.near),
    }
    return figures


def pairs_in(groups: Iterable[Iterable[str]]) -> set[Pair]:
    """Return each two photos of each group."""
    return {
        frozenset(map(Path, pair)) for group in groups for pair in combinations(sorted(group), 2)
    }


def count_kinds(record: Mapping[str, Any]) -> dict[str, int]:
    """Return how many photos, or findings without photos, there are of each kind."""
    counts: dict[str, int] = {}
    for finding in record["findings"]:
        size = finding["suggested"] or len(finding["photos"]) or 1
        counts[finding["kind"]] = counts.get(finding["kind"], 0) + size
    return counts


def clean_line(counts: Mapping[str, int]) -> str:
    """Return the kinds that are named in clean photos, with their counts."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"


COLUMNS: dict[str, Callable[[Figures], str]] = {
    "exact": lambda figures: _percent(figures.get("exact")),
    "near": lambda figures: _percent(figures.get("near")),
    "truncated": lambda figures: _percent(figures.get("truncated")),
    "first 5%": lambda figures: f"{figures['first 5%']:.0%}" if "first 5%" in figures else "-",
    "wrong label": lambda figures: _percent(figures.get("wrong label")),
    "background": lambda figures: _percent(figures.get("background")),
    "seconds": lambda figures: f"{figures['seconds']:.1f}",
}
"""The cells of a line of the table: precision / recall, or a share."""


def _percent(figures: Figures | None) -> str:
    if figures is None:
        return "-"
    precision = figures["precision"]
    return f"{'-' if precision is None else format(precision, '.0%')} / {figures['recall']:.0%}"


def programs(row: Figures) -> list[str]:
    """Return the names of the programs that were measured."""
    return [name for name, value in row.items() if isinstance(value, dict) and "seconds" in value]


def average(rows: Sequence[Figures], program: str) -> Figures:
    """Return the mean of each figure of a program over the rows."""
    all_figures = [row[program] for row in rows]
    result: Figures = {}
    for name, value in all_figures[0].items():
        values = [figures[name] for figures in all_figures]
        if isinstance(value, dict):
            precisions = [item["precision"] for item in values if item["precision"] is not None]
            result[name] = {
                "precision": mean(precisions) if precisions else None,
                "recall": mean(item["recall"] for item in values),
            }
        elif isinstance(value, float):
            result[name] = mean(values)
    return result


def table(rows: Sequence[Figures]) -> str:
    """Return a line for each program: means over the seeds."""
    lines = [f"{'':<34}" + "".join(f"{name:>14}" for name in COLUMNS)]
    for program in programs(rows[0]):
        figures = average(rows, program)
        lines.append(
            f"{program:<34}" + "".join(f"{cell(figures):>14}" for cell in COLUMNS.values())
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
