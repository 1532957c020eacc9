"""The device's commands, and the one place where errors become messages and exit codes."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.errors import BadData, RetrainError, WrongUse

if TYPE_CHECKING:
    from deploy.classifier import PhotoClassifier, Prediction

INTERRUPTED = 130
Classify = Callable[[Path], "list[Prediction]"]
"""From the path of a photo to its best labels, best first."""


class Commands(click.Group):
    """A click group that ends with a message and an exit code, never with a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; exit 0 done, 2 wrong use, 3 bad data, 4 a gate failed, 130 interrupted, 1 a bug."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
            sys.exit(code if isinstance(code, int) else 0)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except RetrainError as error:
            _fail(str(error), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _fail("interrupted", INTERRUPTED)
        except OSError as error:
            _fail(f"{error.filename or 'file'}: {error.strerror or error}", BadData.exit_code)
        except MemoryError:
            _fail("out of memory", BadData.exit_code)
        except Exception as error:
            if os.environ.get("RETRAIN_DEBUG"):
                traceback.print_exc()
            _fail(
                f"a bug in retrain: {type(error).__name__}: {error}\n"
                "Please report it with what RETRAIN_DEBUG=1 in the environment prints.",
                RetrainError.exit_code,
            )


def _fail(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


@click.group(cls=Commands, context_settings=SETTINGS)
def commands() -> None:
    """Run a classifier that `retrain convert` made."""


def label_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every form of `label` takes: the photos and how to show their labels."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a photo."),
        click.option("--top", default=5, show_default=True, type=click.IntRange(min=1)),
        click.option(
            "--threads",
            default=1,
            show_default=True,
            type=click.IntRange(min=1),
            help="CPU threads.",
        ),
        click.option(
            "--labels",
            type=click.Path(path_type=Path, dir_okay=False),
            help="A labels file that the model must agree with.",
        ),
        click.option(
            "--model",
            default=Path("retrained/model.tflite"),
            show_default=True,
            type=click.Path(path_type=Path, dir_okay=False),
        ),
        click.argument("photos", nargs=-1, metavar="PHOTO...", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@commands.command()
@label_options
def label(
    photos: tuple[Path, ...],
    model: Path,
    labels: Path | None,
    threads: int,
    top: int,
    as_json: bool,
) -> None:
    """Print the best labels of each PHOTO, with their probabilities."""
    show_labels(photos, model_classifier(model, labels, threads, top), as_json)


def model_classifier(model: Path, labels: Path | None, threads: int, top: int) -> Classify:
    """Return what classifies by a .tflite file, once its labels agree with the file `labels`."""
    from deploy.classifier import Classifier

    return agreed(Classifier.open(model, threads), labels, model, top)


def agreed(classifier: "PhotoClassifier", labels: Path | None, source: Path, top: int) -> Classify:
    """Return what classifies by the file `source`, once the file `labels` says what it says."""
    from deploy.contract import read_labels

    if labels and read_labels(labels.read_text("utf-8", "replace")) != classifier.contract.labels:
        raise BadData(f"{labels}: not the labels of {source}, which are the ones to trust")
    return partial(classifier.classify, top=top)


def show_labels(photos: tuple[Path, ...], classify: Classify, as_json: bool) -> None:
    """Print labels and scores of each photo; a bad one is reported and the rest go on."""
    if not photos:
        raise WrongUse("no photo named: retrain label PHOTO...")
    bad = 0
    for photo in photos:
        try:
            predictions = classify(photo)
        except (BadData, OSError) as error:
            bad += 1
            reason = error.strerror if isinstance(error, OSError) else error
            click.echo(f"Error: {photo}: {reason}", err=True)
            continue
        if as_json:
            found = [prediction._asdict() for prediction in predictions]
            click.echo(json.dumps({"schema": 1, "photo": str(photo), "predictions": found}))
            continue
        click.echo(click.format_filename(photo))
        for prediction in predictions:
            click.echo(f"  {prediction.score:6.1%}  {prediction.label}")
    if bad:
        raise BadData(f"{bad} of {len(photos)} photos could not be classified")
