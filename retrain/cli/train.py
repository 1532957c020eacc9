"""`retrain train`: the final layer."""

import json
from collections.abc import Callable
from typing import Any

import click

from deploy.system.terminal import say
from retrain.cli.options import (
    FILE,
    FOLDER,
    Command,
    json_option,
    output_dir_option,
    progress,
    source,
    source_options,
)

_PERCENT = click.IntRange(0, 100)


def _number(name: str, default: float, kind: Any, text: str = "") -> Callable[[Command], Command]:
    return click.option(name, default=default, show_default=True, type=kind, help=text)


def _path(name: str, kind: click.Path, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=kind, help=text)


_OPTIONS = (
    _number("--how-many-training-steps", 4000, click.IntRange(1)),
    _number("--learning-rate", 0.01, click.FloatRange(0, min_open=True), "The first step's."),
    click.option(
        "--optimizer",
        default="standardized",
        show_default=True,
        type=click.Choice(["standardized", "sgd"]),
        help="sgd: bottlenecks as they are, one rate, as the classic script.",
    ),
    click.option(
        "--weight-decay",
        type=click.FloatRange(0, 10),
        help="Pull on the weights; 0.1 if standardized, 0 with sgd.",
    ),
    _number("--label-smoothing", 0.0, click.FloatRange(0, 1, max_open=True)),
    click.option(
        "--class-weight",
        default="none",
        show_default=True,
        type=click.Choice(["none", "balanced"]),
        help="balanced: as if all classes were equally frequent.",
    ),
    _number("--train-batch-size", 100, click.IntRange(1, 10_000)),
    _number("--validation-batch-size", 100, click.IntRange(-1), "-1: the whole validation set."),
    _number("--test-batch-size", -1, click.IntRange(-1), "-1: the whole test set."),
    _number("--eval-step-interval", 10, click.IntRange(1)),
    _number("--early-stop", 0, click.IntRange(0), "Twentieths of the run; 0: never."),
    _number("--testing-percentage", 10.0, float),
    _number("--validation-percentage", 10.0, float),
    click.option("--split-salt", default="", help="Another salt, another split."),
    _number("--seed", 0, click.IntRange(0)),
    click.option("--flip-left-right", is_flag=True, help="Mirror half of the distorted views."),
    _number("--random-crop", 0, _PERCENT, "Margin around the crop, percent."),
    _number("--random-scale", 0, _PERCENT, "How much larger at most, percent."),
    _number("--random-brightness", 0, _PERCENT, "How much darker or brighter, percent."),
    _number("--views", 4, click.IntRange(1, 1000), "Distorted views of each training photo."),
    click.option("--final-tensor-name", default="final_result", show_default=True),
    _path("--output-graph", FILE, "Write the frozen graph here too."),
    _path("--output-labels", FILE, "Write its labels here too."),
    _path("--summaries-dir", FOLDER, "TensorBoard events, if not in the folder of the run."),
    _path("--saved-model-dir", FOLDER, "Write a SavedModel into this folder."),
    _path("--checkpoint-path", FILE, "The checkpoint, if not in the folder of the run."),
    click.option("--resume", is_flag=True, help="Go on where a run was that was killed."),
    _number(
        "--intermediate-store-frequency", 0, click.IntRange(0), "Steps between graphs; 0: none."
    ),
    _path("--intermediate-output-graphs-dir", FOLDER, "Where those go, if not in the run."),
    click.option("--print-misclassified-test-images", is_flag=True),
    click.option(
        "--progress",
        "progress_form",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "plain", "json"]),
        help="auto: a live bar on a terminal, else plain lines.",
    ),
    click.option(
        "--logging-verbosity",
        default="info",
        show_default=True,
        type=click.Choice(["DEBUG", "INFO", "WARN", "ERROR", "FATAL"], case_sensitive=False),
    ),
)


def _options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@source_options
@output_dir_option
@_options
@json_option
def train(progress_form: Any, logging_verbosity: Any, as_json: bool, **settings: Any) -> None:
    """Train the final layer on the photos of DIR, one sub-folder a class."""
    from retrain.data.distort import Distortion
    from retrain.data.split import SplitConfig
    from retrain.metrics import Accuracy
    from retrain.settings.training import TrainConfig
    from retrain.training.head import HeadConfig
    from retrain.training.train import train as run

    def of(kind: Any) -> Any:
        return kind(**{name: settings.pop(name) for name in kind.__dataclass_fields__})

    parts = {"head": of(HeadConfig), "distortion": of(Distortion)}
    salt = settings.pop("split_salt")
    shares = (settings.pop("testing_percentage"), settings.pop("validation_percentage"))
    rest = {
        name: settings.pop(name) for name in TrainConfig.__dataclass_fields__ if name in settings
    }
    photos = source(**settings)
    config = TrainConfig(source=photos, split=SplitConfig(*shares, salt), **parts, **rest)
    metrics = run(config, progress(progress_form, logging_verbosity.upper()))
    if as_json:
        say(json.dumps(metrics))
        return
    found = metrics["test"]
    say(f"Final test accuracy = {Accuracy(found['right'], found['total'])}")
    say(f"Written to {config.output_dir}: output_graph.pb, output_labels.txt, metrics.json")
