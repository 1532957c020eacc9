"""`retrain train`: the final layer."""

import json
from collections.abc import Callable
from typing import Any, get_args

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
from retrain.settings.training import (
    ClassWeight,
    Distortion,
    HeadSettings,
    Optimizer,
    SplitSettings,
    TrainSettings,
)

_PERCENT = click.IntRange(0, 100)


def _number(name: str, default: float, kind: Any, text: str = "") -> Callable[[Command], Command]:
    return click.option(name, default=default, show_default=True, type=kind, help=text)


def _path(name: str, kind: click.Path, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=kind, help=text)


_OPTIONS = (
    _number("--how-many-training-steps", HeadSettings.how_many_training_steps, click.IntRange(1)),
    _number(
        "--learning-rate",
        HeadSettings.learning_rate,
        click.FloatRange(0, min_open=True),
        "The first step's.",
    ),
    click.option(
        "--optimizer",
        default=HeadSettings.optimizer,
        show_default=True,
        type=click.Choice(get_args(Optimizer)),
        help="sgd: bottlenecks as they are, one rate, as the classic script.",
    ),
    click.option(
        "--weight-decay",
        type=click.FloatRange(0, 10),
        help="Pull on the weights; 0.1 if standardized, 0 with sgd.",
    ),
    _number(
        "--label-smoothing", HeadSettings.label_smoothing, click.FloatRange(0, 1, max_open=True)
    ),
    click.option(
        "--class-weight",
        default=HeadSettings.class_weight,
        show_default=True,
        type=click.Choice(get_args(ClassWeight)),
        help="balanced: as if all classes were equally frequent.",
    ),
    _number("--train-batch-size", HeadSettings.train_batch_size, click.IntRange(1, 10_000)),
    _number(
        "--validation-batch-size",
        HeadSettings.validation_batch_size,
        click.IntRange(-1),
        "-1: the whole validation set.",
    ),
    _number(
        "--test-batch-size",
        TrainSettings.test_batch_size,
        click.IntRange(-1),
        "-1: the whole test set.",
    ),
    _number("--eval-step-interval", HeadSettings.eval_step_interval, click.IntRange(1)),
    _number(
        "--early-stop",
        HeadSettings.early_stop,
        click.IntRange(0),
        "Twentieths of the run; 0: never.",
    ),
    _number("--testing-percentage", SplitSettings.testing_percentage, float),
    _number("--validation-percentage", SplitSettings.validation_percentage, float),
    click.option("--split-salt", default=SplitSettings.salt, help="Another salt, another split."),
    _number("--seed", HeadSettings.seed, click.IntRange(0)),
    click.option("--flip-left-right", is_flag=True, help="Mirror half of the distorted views."),
    _number("--random-crop", Distortion.random_crop, _PERCENT, "Margin around the crop, percent."),
    _number(
        "--random-scale", Distortion.random_scale, _PERCENT, "How much larger at most, percent."
    ),
    _number(
        "--random-brightness",
        Distortion.random_brightness,
        _PERCENT,
        "How much darker or brighter, percent.",
    ),
    _number(
        "--views",
        TrainSettings.views,
        click.IntRange(1, 1000),
        "Distorted views of each training photo.",
    ),
    click.option("--final-tensor-name", default=TrainSettings.final_tensor_name, show_default=True),
    _path("--output-graph", FILE, "Write the frozen graph here too."),
    _path("--output-labels", FILE, "Write its labels here too."),
    _path("--summaries-dir", FOLDER, "TensorBoard events, if not in the folder of the run."),
    _path("--saved-model-dir", FOLDER, "Write a SavedModel into this folder."),
    _path("--checkpoint-path", FILE, "The checkpoint, if not in the folder of the run."),
    click.option("--resume", is_flag=True, help="Go on where a run was that was killed."),
    _number(
        "--intermediate-store-frequency",
        HeadSettings.intermediate_store_frequency,
        click.IntRange(0),
        "Steps between graphs; 0: none.",
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
    from retrain.metrics import Accuracy
    from retrain.training.train import train as run

    def of(kind: Any) -> Any:
        return kind(**{name: settings.pop(name) for name in kind.__dataclass_fields__})

    parts = {"head": of(HeadSettings), "distortion": of(Distortion)}
    salt = settings.pop("split_salt")
    shares = (settings.pop("testing_percentage"), settings.pop("validation_percentage"))
    rest = {
        name: settings.pop(name) for name in TrainSettings.__dataclass_fields__ if name in settings
    }
    photos = source(**settings)
    config = TrainSettings(source=photos, split=SplitSettings(*shares, salt), **parts, **rest)
    metrics = run(config, progress(progress_form, logging_verbosity.upper()))
    if as_json:
        say(json.dumps(metrics))
        return
    found = metrics["test"]
    say(f"Final test accuracy = {Accuracy(found['right'], found['total'])}")
    say(f"Written to {config.output_dir}: output_graph.pb, output_labels.txt, metrics.json")
