"""`retrain bench`: measure models; show, compare and plot what was measured."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import click

from bench.record import SCHEMA_VERSION, BenchRecord, Settings, read, read_one, to_text
from deploy.cli import SETTINGS, Commands, name_options
from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.cli.numbers import Number
from deploy.cli.typed import typed
from deploy.errors import BadData, GateFailed, WrongUse
from deploy.run_command import DEFAULT_RUN_FOLDER, run_command
from deploy.system.terminal import say, say_table

_DEFAULTS = Settings()
_FILE = click.Path(path_type=Path, dir_okay=False)
_output_dir_option = click.option(
    "--output-dir",
    default=DEFAULT_RUN_FOLDER,
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The run folder, used if no file is named.",
)
_records_argument = click.argument("records", nargs=-1, metavar="[RECORD]...", type=_FILE)
_markdown_option = click.option("--markdown", is_flag=True, help="Print Markdown.")
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, samples included."
)


class _Bench(Commands):
    """The group whose command `run` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = (*self.commands, *SETTINGS["help_option_names"])
        completing = not args and ctx.resilient_parsing  # a shell asks what may come here
        if not completing and (not args or args[0] not in names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Bench)
def bench() -> None:
    """Time models against each other, and show what was measured.

    Without a command, `retrain bench` means `retrain bench run`. A model that has the name of a
    command is then ./show or the like.
    """


_GROUPS: Groups = {
    "What is timed": (
        "--output-dir",
        "--runtime",
        "--runtime-python",
        "--threads",
        "--photo",
        "--profile",
    ),
    "How long": ("--rounds", "--runs", "--seconds"),
    "A model that does not describe itself": (
        "--input-tensor",
        "--output-tensor",
        "--input-size",
    ),
    "General": ("--markdown", "--no-report", *GENERAL["General"]),
    "Rarely used": ("--seed",),
}


@bench.command(cls=GroupedCommand, groups=_GROUPS)
@click.argument("models", nargs=-1, metavar="[MODEL]...", type=click.Path(path_type=Path))
@_output_dir_option
@click.option(
    "--rounds",
    default=_DEFAULTS.rounds,
    show_default=True,
    type=click.IntRange(2),
    help="Processes that time each model, one after the other.",
)
@click.option(
    "--runs",
    default=_DEFAULTS.runs,
    show_default=True,
    type=click.IntRange(1),
    help="A round ends after this many calls or after --seconds, whichever comes first.",
)
@click.option(
    "--seconds",
    default=_DEFAULTS.seconds,
    show_default=True,
    type=Number(0, min_open=True),
    help="See --runs.",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1),
    help="CPU threads; may be given several times.  [default: 1, 2, 4... up to the cores]",
)
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(["TensorFlow", "LiteRT", "tflite-runtime"], case_sensitive=False),
    help="Use only this runtime; may be given several times.",
)
@click.option(
    "--runtime-python",
    "pythons",
    multiple=True,
    metavar="PATH",
    help="Use the runtimes of another Python too; may be given several times.",
)
@click.option(
    "--photo",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Time the steps from decode to total on this photo.  [default: a drawn JPEG, 1280x960]",
)
@click.option("--input-tensor", help="The input node of a graph without a contract.")
@click.option("--output-tensor", help="The output node of a graph without a contract.")
@click.option(
    "--input-size",
    type=click.IntRange(1),
    help="The side of an image in pixels, for a model that leaves it open.",
)
@click.option(
    "--seed",
    default=lambda: secrets.randbelow(2**32),
    show_default="random",
    type=click.IntRange(0),
    help="Seed of the random order of the rounds.",
)
@click.option(
    "--profile", is_flag=True, help="Add the times of operators where a runtime reports them."
)
@click.option("--no-report", is_flag=True, help="Do not refresh report.html in the run folder.")
@_markdown_option
@_json_option
def run(
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
    no_report: bool,
    markdown: bool,
    as_json: bool,
) -> Path | None:
    """Time models on this CPU, on every runtime that is installed.

    A MODEL is a frozen graph (.pb), a .tflite file or a SavedModel folder. Without one, the graph
    and the models of the run folder are timed, and bench.json is saved there, samples included.
    """
    from bench import compare_models
    from bench.find_models import GraphInput, models_at, models_of_run
    from bench.load_tflite import draw_photo
    from deploy import files
    from deploy.system.cores import cores
    from deploy.system.temporary_files import scratch

    settings = Settings(
        rounds=rounds,
        runs=runs,
        seconds=seconds,
        threads=tuple(sorted({*threads})) or _powers_of_two(cores()),
        runtimes=runtimes,
        profile=profile,
        seed=seed,
    )
    if photo:
        _check_photo(photo)
    graph_input = GraphInput(input_tensor, output_tensor, input_size)
    _require_one_form(markdown, as_json)
    _require_one_place(models, "MODEL")
    if models:
        files_to_time = models_at(models, graph_input)
    elif graph_input != GraphInput():
        raise WrongUse(
            "`input_tensor`, `output_tensor` and `input_size` describe a MODEL: name it, or leave "
            "them out"
        )
    else:
        files_to_time = models_of_run(output_dir)
        if not os.access(output_dir, os.W_OK):  # before minutes of measuring
            raise BadData(
                f"{output_dir}: bench.json cannot be written there: change the permissions of the "
                "folder, or name the models instead, with --json"
            )
    with scratch() as temporary:
        record = compare_models.compare(
            files_to_time,
            settings,
            photo or draw_photo(temporary / "drawn.jpg"),
            pythons,
            lambda text: say(name_options(text, run), err=True),
        )
    if not models:
        files.write(output_dir / "bench.json", to_text(record.to_json()))
    _print([record], markdown, as_json)
    return None if models or no_report else output_dir


@bench.command()
@_records_argument
@_output_dir_option
@_markdown_option
@_json_option
def show(records: tuple[Path, ...], output_dir: Path, markdown: bool, as_json: bool) -> None:
    """Show what was measured; several files side by side.

    A RECORD is a bench.json, or what --json printed.  [default: bench.json of the run folder]
    """
    _require_one_form(markdown, as_json)
    _require_one_place(records, "RECORD")
    _print(_read_all(records, output_dir), markdown, as_json)


@bench.command()
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option(
    "--max-slowdown",
    default=5.0,
    show_default=True,
    type=Number(0),
    help="Percent; a model that is slower by more than that gives exit code 4.",
)
@_markdown_option
@_json_option
def compare(old: Path, new: Path, max_slowdown: float, markdown: bool, as_json: bool) -> None:
    """Report what became slower between two records.

    OLD and NEW are bench.json files of one machine.
    """
    from bench.report_changes import TOO_SLOW, changes, table, unmatched

    _require_one_form(markdown, as_json)
    before, after = read_one(old), read_one(new)
    share = max_slowdown / 100
    rows, missing = changes(before, after, share), unmatched(before, after)
    if as_json:
        lists: dict[str, list[Any]] = {"changes": rows, **missing}
        values = {name: [row._asdict() for row in members] for name, members in lists.items()}
        say(json.dumps({"schema": SCHEMA_VERSION, **values}))
    else:
        say_table(table(rows, missing, markdown))
    slow = [str(row.key) for row in rows if row.verdict == TOO_SLOW]
    if slow:
        raise GateFailed(
            f"slower by more than {share:.0%}, and that is no noise: {', '.join(slow)}"
        )


@bench.command()
@_records_argument
@_output_dir_option
@click.option(
    "--output",
    "pictures",
    multiple=True,
    required=True,
    metavar="FILE",
    type=_FILE,
    help="The .png or .svg file to write; may be given several times.",
)
def plot(records: tuple[Path, ...], output_dir: Path, pictures: tuple[Path, ...]) -> None:
    """Draw the time of calls, and accuracy against time.

    A RECORD is a bench.json, or what --json printed.  [default: bench.json of the run folder]
    """
    from bench import report_plot

    _require_one_place(records, "RECORD")
    for path in pictures:
        report_plot.check(path)
    measured = _read_all(records, output_dir)
    for path in pictures:
        report_plot.draw(measured, path)


def _powers_of_two(cores: int) -> tuple[int, ...]:
    """Return 1, 2, 4... up to the number of cores, and that number."""
    return tuple(sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores}))


def _require_one_form(markdown: bool, as_json: bool) -> None:
    """Raise WrongUse for both of two forms of what is printed."""
    if markdown and as_json:
        raise WrongUse("`markdown` and `as_json` are two forms: leave one of them out")


def _require_one_place(named: tuple[Path, ...], metavar: str) -> None:
    """Raise WrongUse if files are `named` and a run folder is too, which would be ignored."""
    if named and typed(["output_dir"]):
        raise WrongUse(f"`output_dir` is used if no {metavar} is named: leave one of them out")


def _check_photo(photo: Path) -> None:
    """Raise BadData, with its path, for a file that is not a photo."""
    from deploy.image import open_image

    try:
        with photo.open("rb") as stream:  # of a large file, or a device, only the head is read
            open_image(stream)
    except BadData as error:
        raise BadData(f"{photo}: {error}") from error


def _read_all(paths: tuple[Path, ...], output_dir: Path) -> list[BenchRecord]:
    if not paths:
        paths = (output_dir / "bench.json",)
        if not paths[0].exists():
            command = run_command(output_dir, "bench")
            raise BadData(f"{paths[0]}: no such file: run `{command}` first, or name a RECORD")
    return [record for path in paths for record in read(path)]


def _print(records: list[BenchRecord], markdown: bool, as_json: bool) -> None:
    from bench.report import report, side_by_side

    if as_json:
        values = [record.to_json() for record in records]
        merged = {"schema": SCHEMA_VERSION, "records": values}
        text = json.dumps(values[0] if len(values) == 1 else merged, indent=2)
    elif len(records) > 1:
        text = side_by_side(records, markdown)
    else:
        text = report(records[0], markdown)
    say_table(text if as_json else name_options(text, run))
