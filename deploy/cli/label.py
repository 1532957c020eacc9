"""`label`: print the best labels of photos; the laptop's command is built on it."""

import glob
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.numbers import Number
from deploy.errors import BadData, WrongUse
from deploy.system.cores import cores
from deploy.system.counts import with_noun
from deploy.system.terminal import say
from deploy.user_files import owner_of, walk

if TYPE_CHECKING:
    from deploy.classifier import PhotoClassifier

STDIN = "-"
model_option = click.option(
    "--model",
    default=Path("retrained/model.tflite"),
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The .tflite file.",
)
threads_option = click.option(
    "--threads",
    default=min(2, cores()),
    show_default=True,
    type=click.IntRange(min=1),
    help="CPU threads; two take 0.83 of one's time on two cores.",
)


def label_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and options of every `label` command: photos, and how to print labels."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a photo."),
        click.option(
            "--threshold",
            default=0.0,
            show_default=True,
            type=Number(0, 1),
            help="Leave out labels that are less probable.",
        ),
        click.option(
            "--top",
            default=5,
            show_default=True,
            type=click.IntRange(min=1),
            help="Print at most this many labels of each photo.",
        ),
        threads_option,
        click.option(
            "--labels",
            type=click.Path(path_type=Path, dir_okay=False),
            help="A labels file; fail if the model's labels differ from it.",
        ),
        model_option,
        click.argument("photos", nargs=-1, metavar="PHOTO...", type=click.Path()),
    ):
        command = option(command)
    return command


@click.command()
@label_options
def label(
    photos: tuple[str, ...],
    model: Path,
    labels: Path | None,
    threads: int,
    top: int,
    threshold: float,
    as_json: bool,
) -> None:
    """Print the best labels of each PHOTO, with their probabilities.

    A PHOTO is a file, a folder, a pattern such as 'photos/*.jpg', or - for the bytes of one photo
    on standard input.
    """
    show_labels(photos, open_model(model, labels, threads), top, threshold, as_json)


def open_model(model: Path, labels: Path | None, threads: int) -> "PhotoClassifier":
    """Return the classifier of a .tflite file; raise BadData if the file `labels` differs."""
    from deploy.classifier import Classifier

    classifier = Classifier.open(model, threads)
    check_labels(classifier, labels, model)
    return classifier


def check_labels(classifier: "PhotoClassifier", labels: Path | None, source: Path) -> None:
    """Raise BadData if the labels file differs from the classifier's labels, read from `source`."""
    from deploy.contract import read_labels_file

    if not labels:
        return
    names, right = read_labels_file(labels), classifier.contract.labels
    if names != right:
        pairs = zip_longest(map(repr, names), map(repr, right), fillvalue="missing")
        line, (name, model) = next(row for row in enumerate(pairs, 1) if len({*row[1]}) > 1)
        raise BadData(
            f"{labels}: not the labels of {source}, which are the ones to trust: "
            f"line {line} is {name}, there it is {model}"
        )


def show_labels(
    photos: tuple[str, ...],
    classifier: "PhotoClassifier",
    top: int,
    threshold: float,
    as_json: bool,
) -> None:
    """Print labels and scores of each photo; report a bad photo and go on with the next."""
    if not photos:
        raise WrongUse("no photo named: name files, folders, patterns, or - for standard input")
    bad = total = 0
    for photo in find_photos(photos):
        total += 1
        try:
            answer = classifier.answer(_read(photo), top)
        except (BadData, OSError, MemoryError) as error:
            bad += 1
            reason = str(error.strerror if isinstance(error, OSError) else error) or "out of memory"
            say(f"Error: {photo}: {' '.join(reason.split())}", err=True)
            continue
        # A rejection has no label, so the threshold is not for it.
        shown = [p for p in answer.predictions if p.label is None or p.score >= threshold]
        if as_json:
            record = {
                "schema": 1,
                "path": photo,
                "labels": [prediction.text for prediction in shown],
                "scores": [prediction.score for prediction in shown],
                "unknown": answer.rejected,
                "ms": answer.ms,
            }
            say(json.dumps(record))
            continue
        say(photo, *(f"  {prediction.score:6.1%}  {prediction.text}" for prediction in shown))
        if not shown:
            say(f"  no label reaches {100 * threshold:g}%")
    if bad:
        raise BadData(f"{bad:,} of {with_noun(total, 'photo')} could not be classified")


def find_photos(names: Iterable[str]) -> Iterator[str]:
    """Yield the photos of arguments: a file as it is, those in a folder, those of a pattern.

    Of a folder, every file is yielded that claims to be a photo by its content or its name. An
    argument without a photo is yielded too: reading it gives the reason.
    """
    for name in names:
        if name != STDIN and os.path.isdir(name):  # noqa: PTH112 (False where it cannot tell)
            yield from _in_folder(Path(name))
        elif name == STDIN or os.path.lexists(name) or not glob.has_magic(name):
            yield name
        else:  # a shell that knows patterns would have replaced it
            paths = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (it may be absolute)
            if "**" in name:  # the pattern already matches what is in the folders
                paths = [path for path in paths if not os.path.isdir(path)]  # noqa: PTH112
            yield from find_photos(paths) if paths else [name]


def _in_folder(folder: Path) -> Iterator[str]:
    from deploy.image import HEAD, claims_photo

    is_empty = True
    unreadable: list[str] = []
    ignored: list[Path] = []

    def on_error(error: OSError) -> None:
        unreadable.append(str(Path(error.filename)))

    for path in walk(folder, on_error, ignored.append):
        with suppress(OSError):  # reading it gives the reason
            if path.is_file():
                with path.open("rb") as stream:
                    if not claims_photo(path, stream.read(HEAD)):
                        continue
            elif path.exists():  # a pipe or a device
                continue
        is_empty = False
        yield str(path)
    for path in ignored:
        if not path.name.startswith(".") and path.is_dir():
            owner = owner_of(path.name)
            say(f"{path} is left out, put there by {owner}: name it to label it", err=True)
    yield from unreadable
    if is_empty and not unreadable:
        yield str(folder)


def _read(photo: str) -> str | bytes:
    from deploy.image import MAX_PHOTO_BYTES

    if photo == STDIN:
        return sys.stdin.buffer.read(MAX_PHOTO_BYTES + 1)
    if os.path.isdir(photo):  # noqa: PTH112
        os.scandir(photo).close()  # raises the reason if it cannot be read
        raise BadData("no photos in this folder")
    return photo
