"""`label`: what every form of the command shares, on a laptop and on a device."""

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

from deploy import files
from deploy.errors import BadData, WrongUse
from deploy.system.cores import cores
from deploy.system.known_names import owner_of
from deploy.system.terminal import say

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
    help="CPU threads; two take 0.66 to 0.78 of one's time on two cores.",
)


def label_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every form of `label` takes: the photos and how to show their labels."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a photo."),
        click.option(
            "--threshold",
            default=0.0,
            show_default=True,
            type=click.FloatRange(0, 1),
            help="Leave out labels that are less probable.",
        ),
        click.option(
            "--top",
            default=5,
            show_default=True,
            type=click.IntRange(min=1),
            help="Labels of each photo, at most.",
        ),
        threads_option,
        click.option(
            "--labels",
            type=click.Path(path_type=Path, dir_okay=False),
            help="A labels file that the model must agree with.",
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
    """Return the classifier of a .tflite file, once its labels agree with the file `labels`."""
    from deploy.classifier import Classifier

    return agreed(Classifier.open(model, threads), labels, model)


def agreed(classifier: "PhotoClassifier", labels: Path | None, source: Path) -> "PhotoClassifier":
    """Return the classifier of the file `source`, once the file `labels` says what it says."""
    from deploy.contract import read_labels_file

    if labels:
        names, right = read_labels_file(labels), classifier.contract.labels
        if names != right:
            pairs = zip_longest(map(repr, names), map(repr, right), fillvalue="missing")
            i, (name, model) = next(each for each in enumerate(pairs, 1) if len({*each[1]}) > 1)
            raise BadData(
                f"{labels}: not the labels of {source}, which are the ones to trust: "
                f"line {i} is {name}, there it is {model}"
            )
    return classifier


def show_labels(
    photos: tuple[str, ...],
    classifier: "PhotoClassifier",
    top: int,
    threshold: float,
    as_json: bool,
) -> None:
    """Print labels and scores of each photo; a bad one is reported and the rest go on."""
    if not photos:
        raise WrongUse("no photo named: name files, folders, patterns, or - for standard input")
    bad = total = 0
    for photo in find(photos):
        total += 1
        try:
            answer = classifier.answer(_read(photo), top)
        except (BadData, OSError, MemoryError) as error:
            bad += 1
            reason = str(error.strerror if isinstance(error, OSError) else error) or "out of memory"
            say(f"Error: {photo}: {' '.join(reason.split())}", err=True)
            continue
        shown = [each for each in answer.predictions if each.score >= threshold]
        if answer.unknown and shown[:1] != answer.predictions[:1]:  # no label, so no threshold
            shown = [answer.predictions[0], *shown]
        if as_json:
            labels, scores = [each.label for each in shown], [each.score for each in shown]
            said = {"schema": 1, "path": photo, "labels": labels, "scores": scores}
            say(json.dumps({**said, "unknown": answer.unknown, "ms": answer.ms}))
            continue
        say(photo, *(f"  {each.score:6.1%}  {each.label}" for each in shown))
        if not shown:
            say(f"  no label reaches {100 * threshold:g}%")
    if bad:
        raise BadData(f"{bad} of {total} photos could not be classified")


def find(names: Iterable[str]) -> Iterator[str]:
    """Yield the photos that are named: files as they are, those of folders, those of patterns.

    Of a folder, every file that claims to be a photo, by its content or its name. What names no
    photo is yielded too: reading it says why.
    """
    for name in names:
        if name != STDIN and os.path.isdir(name):  # noqa: PTH112 (False where it cannot tell)
            yield from _in_folder(Path(name))
        elif name == STDIN or os.path.lexists(name) or not glob.has_magic(name):
            yield name
        else:  # a shell that knows patterns would have replaced it
            found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (it may be absolute)
            if "**" in name:  # what is in the folders is found already
                found = [each for each in found if not os.path.isdir(each)]  # noqa: PTH112
            yield from find(found) if found else [name]


def _in_folder(folder: Path) -> Iterator[str]:
    from deploy.image import HEAD, claims_photo

    none = True
    locked: list[str] = []
    left_out: list[Path] = []

    def lock(error: OSError) -> None:
        locked.append(str(Path(error.filename)))

    for path in files.walk(folder, lock, left_out.append):
        with suppress(OSError):  # reading it says why
            if path.is_file():
                with path.open("rb") as stream:
                    if not claims_photo(path, stream.read(HEAD)):
                        continue
            elif path.exists():  # a pipe or a device
                continue
        none = False
        yield str(path)
    for path in left_out:
        if not path.name.startswith(".") and path.is_dir():
            owner = owner_of(path.name)
            say(f"{path} is left out, put there by {owner}: name it to label it", err=True)
    yield from locked
    if none and not locked:
        yield str(folder)


def _read(photo: str) -> str | bytes:
    from deploy.image import MAX_BYTES

    if photo == STDIN:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    if os.path.isdir(photo):  # noqa: PTH112
        os.scandir(photo).close()  # which says why where it cannot be read
        raise BadData("no photos in this folder")
    return photo
