"""`retrain bench`: measure models, or show, draw and compare what was measured."""

import json
import os
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import click

from deploy.errors import BadData, GateFailed, WrongUse
from deploy.system.terminal import say, say_table


def _powers(cores: int) -> tuple[int, ...]:
    """Return 1, 2, 4... up to the cores, and the cores themselves."""
    return tuple(sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores}))


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...", type=click.Path(path_type=Path))
@click.option(
    "--output-dir",
    default=Path("retrained"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The run folder, where no MODEL is named.",
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(2))
@click.option(
    "--runs",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="A round ends after so many calls, or after --seconds, what comes first.",
)
@click.option(
    "--seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="See --runs.",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1),
    help="CPU threads. Repeatable.  [default: 1, 2, 4... up to the cores]",
)
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(["TensorFlow", "LiteRT", "tflite-runtime"], case_sensitive=False),
    help="Only this one. Repeatable.",
)
@click.option(
    "--runtime-python",
    "pythons",
    multiple=True,
    metavar="PATH",
    help="Another Python, for the runtimes in it. Repeatable.",
)
@click.option(
    "--photo",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For decode to total.  [default: a drawn JPEG, 1280x960]",
)
@click.option("--input-tensor", help="Where the image goes, in a graph of others.")
@click.option("--output-tensor", help="What to compute, in a graph of others.")
@click.option("--input-size", type=click.IntRange(1), help="Pixels, where a graph does not tell.")
@click.option(
    "--seed",
    default=lambda: secrets.randbelow(2**32),
    show_default="drawn",
    type=click.IntRange(0),
    help="Of the random order of the rounds.",
)
@click.option("--profile", is_flag=True, help="Add the times of operators where a runtime tells.")
@click.option("--merge", is_flag=True, help="Each MODEL is a bench.json: show them side by side.")
@click.option(
    "--compare",
    "compared",
    nargs=2,
    metavar="OLD NEW",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Tell what became slower between two bench.json.",
)
@click.option(
    "--max-slowdown",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Percent; slower than that by --compare is exit code 4.",
)
@click.option(
    "--plot",
    "plots",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw into a .png or .svg file. Repeatable.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, samples and all.")
def bench(
    models: tuple[Path, ...],
    output_dir: Path,
    rounds: int,
    runs: int,
    seconds: float,
    threads: tuple[int, ...],
    runtimes: tuple[str, ...],
    pythons: tuple[str, ...],
    photo: Path | None,
    input_tensor: str | None,
    output_tensor: str | None,
    input_size: int | None,
    seed: int,
    profile: bool,
    merge: bool,
    compared: tuple[Path, Path] | None,
    max_slowdown: float,
    plots: tuple[Path, ...],
    markdown: bool,
    as_json: bool,
) -> None:
    """Time models against each other on this CPU, on every runtime that is installed.

    A MODEL is a frozen graph (.pb), a .tflite file or a SavedModel folder; without one the graph
    and the models of the run folder are timed, and bench.json is saved there, samples included.
    """
    from bench import report_plot
    from bench.compare_models import Settings
    from bench.find_models import Foreign
    from bench.record import read
    from deploy.system.cores import cores

    if compared:
        if models or merge or plots:
            raise WrongUse("--compare takes two files, OLD and NEW, and nothing to measure or draw")
        _compare(*compared, max_slowdown / 100, markdown, as_json)
        return
    for path in plots:  # before minutes of measuring
        report_plot.check(path)
    if merge:
        if not models:
            raise WrongUse("--merge needs files: retrain bench --merge laptop.json pi.json")
        records = [record for path in models for record in read(path)]
    else:
        tried = tuple(sorted({*threads})) or _powers(cores())
        settings = Settings(rounds, runs, seconds, tried, runtimes, profile, seed)
        foreign = Foreign(input_tensor, output_tensor, input_size)
        records = [_measure(models, output_dir, settings, foreign, pythons, photo)]
    _show(records, merge, markdown, as_json)
    for path in plots:  # last: what was measured is printed, whatever becomes of a picture
        report_plot.draw(records, path)


def _measure(
    models: tuple[Path, ...],
    folder: Path,
    settings: Any,
    foreign: Any,
    pythons: tuple[str, ...],
    photo: Path | None,
) -> Any:
    from bench import compare_models as rounds
    from bench import find_models
    from bench.machine import to_json
    from bench.photo import drawn
    from deploy import files
    from deploy.system.temporary_files import scratch

    if photo:
        _check(photo)
    found = find_models.named(models, foreign) if models else find_models.of_run(folder)
    if not models and not os.access(folder, os.W_OK):  # before minutes of measuring
        raise BadData(
            f"{folder}: bench.json cannot be written there: change the permissions of the folder, "
            "or name the models instead, with --json"
        )
    with scratch() as temporary:
        record = rounds.compare(
            found,
            settings,
            photo or drawn(temporary / "drawn.jpg"),
            pythons,
            partial(say, err=True),
        )
    if not models:
        files.write(folder / "bench.json", to_json(record))
    return record


def _check(photo: Path) -> None:
    from deploy.image import open_image

    try:
        open_image(photo.read_bytes())
    except BadData as error:
        raise BadData(f"{photo}: {error}") from error


def _show(records: list[Any], merge: bool, markdown: bool, as_json: bool) -> None:
    from bench import beside, report
    from bench.machine import SCHEMA_VERSION

    if as_json:
        several = {"schema": SCHEMA_VERSION, "records": records}
        say_table(json.dumps(records[0] if len(records) == 1 else several, indent=2))
    elif merge and len(records) > 1:
        say_table(beside.side_by_side(records, markdown))
    else:
        say_table(report.report(records[0], markdown))


def _compare(old: Path, new: Path, max_slowdown: float, markdown: bool, as_json: bool) -> None:
    from bench.machine import SCHEMA_VERSION
    from bench.record import read_one
    from bench.report_changes import TOO_SLOW, changes, table, unmatched

    before, after = read_one(old), read_one(new)
    found, missing = changes(before, after, max_slowdown), unmatched(before, after)
    if as_json:
        told: dict[str, list[Any]] = {"changes": found, **missing}
        rows = {name: [each._asdict() for each in several] for name, several in told.items()}
        say(json.dumps({"schema": SCHEMA_VERSION, **rows}))
    else:
        say_table(table(found, missing, markdown))
    slow = [each for each in found if each.verdict == TOO_SLOW]
    if slow:
        names = ", ".join(str(each.key) for each in slow)
        raise GateFailed(f"slower by more than {max_slowdown:.0%}, and that is no noise: {names}")
