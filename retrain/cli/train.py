"""`retrain train`: train the head on a folder of photos."""

import json
from collections.abc import Callable
from typing import Any, get_args

import click

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.system.terminal import say
from retrain.cli.options import (
    CACHE_GROUP,
    FILE,
    FOLDER,
    NETWORK_GROUPS,
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

_GROUPS: Groups = {
    "Photos": (
        "--image-dir",
        "--labels-from",
        "--testing-percentage",
        "--validation-percentage",
        "--split-salt",
    ),
    "Training": (
        "--how-many-training-steps",
        "--learning-rate",
        "--optimizer",
        "--weight-decay",
        "--label-smoothing",
        "--class-weight",
        "--train-batch-size",
        "--early-stop",
        "--seed",
    ),
    "Distorted views": (
        "--flip-left-right",
        "--random-crop",
        "--random-scale",
        "--random-brightness",
        "--random-contrast",
        "--random-saturation",
        "--views",
    ),
    "Output": (
        "--output-dir",
        "--output-graph",
        "--output-labels",
        "--saved-model-dir",
        "--print-misclassified-test-images",
    ),
    **NETWORK_GROUPS,
    **CACHE_GROUP,
    "General": ("--resume", "--progress", "--logging-verbosity", *GENERAL["General"]),
    "Rarely used": (
        "--checkpoint-path",
        "--summaries-dir",
        "--eval-step-interval",
        "--validation-batch-size",
        "--test-batch-size",
        "--final-tensor-name",
        "--intermediate-store-frequency",
        "--intermediate-output-graphs-dir",
    ),
}
_PERCENT = click.IntRange(0, 100)


def _value(name: str, default: Any, kind: Any, text: str) -> Callable[[Command], Command]:
    return click.option(name, default=default, show_default=True, type=kind, help=text)


def _path(name: str, kind: click.Path, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=kind, help=text)


_OPTIONS = (
    _value(
        "--how-many-training-steps",
        HeadSettings.how_many_training_steps,
        click.IntRange(1),
        "Number of training steps.",
    ),
    _value(
        "--learning-rate",
        HeadSettings.learning_rate,
        click.FloatRange(0, min_open=True),
        "Learning rate of the first step.",
    ),
    _value(
        "--optimizer",
        HeadSettings.optimizer,
        click.Choice(get_args(Optimizer)),
        "standardized: SGD on standardized bottlenecks, with a falling rate; sgd: bottlenecks "
        "unchanged and a constant rate, as the classic script.",
    ),
    click.option(
        "--weight-decay",
        type=click.FloatRange(0, 10),
        help="Weight decay.  [default: 0.1 if standardized, 0 if sgd]",
    ),
    _value(
        "--label-smoothing",
        HeadSettings.label_smoothing,
        click.FloatRange(0, 1, max_open=True),
        "Share of each target spread over all classes.",
    ),
    _value(
        "--class-weight",
        HeadSettings.class_weight,
        click.Choice(get_args(ClassWeight)),
        "balanced: probabilities as if all classes were equally frequent; none: as frequent as "
        "in the folder.",
    ),
    _value(
        "--train-batch-size",
        HeadSettings.train_batch_size,
        click.IntRange(1, 10_000),
        "Photos per training step.",
    ),
    _value(
        "--validation-batch-size",
        HeadSettings.validation_batch_size,
        click.IntRange(-1),
        "Photos per validation; -1: the whole validation set.",
    ),
    _value(
        "--test-batch-size",
        TrainSettings.test_batch_size,
        click.IntRange(-1),
        "Photos in the final test; -1: the whole test set.",
    ),
    _value(
        "--eval-step-interval",
        HeadSettings.eval_step_interval,
        click.IntRange(1),
        "Steps between validations.",
    ),
    _value(
        "--early-stop",
        HeadSettings.early_stop,
        click.IntRange(0),
        "Stop after so many rounds (twentieths of the run) without better weights; 0: never.",
    ),
    _value(
        "--testing-percentage",
        SplitSettings.testing_percentage,
        float,
        "Share of the photos in the test set, percent.",
    ),
    _value(
        "--validation-percentage",
        SplitSettings.validation_percentage,
        float,
        "Share of the photos in the validation set, percent.",
    ),
    click.option(
        "--split-salt",
        default=SplitSettings.salt,
        help="Any text; another text gives another split.",
    ),
    _value(
        "--seed",
        HeadSettings.seed,
        click.IntRange(0),
        "Seed of the first weights and of the batches.",
    ),
    click.option("--flip-left-right", is_flag=True, help="Mirror half of the distorted views."),
    _value(
        "--random-crop",
        Distortion.random_crop,
        _PERCENT,
        "Margin around the random crop of a view, percent.",
    ),
    _value(
        "--random-scale",
        Distortion.random_scale,
        _PERCENT,
        "Largest enlargement of a view, percent.",
    ),
    _value(
        "--random-brightness",
        Distortion.random_brightness,
        _PERCENT,
        "Largest change of a view's brightness, percent.",
    ),
    _value(
        "--random-contrast",
        Distortion.random_contrast,
        _PERCENT,
        "Largest change of a view's contrast, percent.",
    ),
    _value(
        "--random-saturation",
        Distortion.random_saturation,
        _PERCENT,
        "Largest change of how strong a view's colours are, percent.",
    ),
    _value(
        "--views",
        TrainSettings.views,
        click.IntRange(1, 1000),
        "Distorted views of each training photo.",
    ),
    _value(
        "--final-tensor-name",
        TrainSettings.final_tensor_name,
        str,
        "Name of the graph's output operation.",
    ),
    _path("--output-graph", FILE, "Also write the frozen graph to this file."),
    _path("--output-labels", FILE, "Also write its labels to this file."),
    _path("--summaries-dir", FOLDER, "Folder of the TensorBoard events.  [default: in the run]"),
    _path("--saved-model-dir", FOLDER, "Also write a SavedModel into this folder."),
    _path("--checkpoint-path", FILE, "File of the checkpoint.  [default: in the run]"),
    click.option("--resume", is_flag=True, help="Resume a run that was killed."),
    _value(
        "--intermediate-store-frequency",
        HeadSettings.intermediate_store_frequency,
        click.IntRange(0),
        "Steps between intermediate graphs; 0: write none.",
    ),
    _path(
        "--intermediate-output-graphs-dir",
        FOLDER,
        "Folder of the intermediate graphs.  [default: in the run]",
    ),
    click.option(
        "--print-misclassified-test-images",
        is_flag=True,
        help="Print each misclassified test photo.",
    ),
    click.option(
        "--progress",
        "progress_form",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "plain", "json"]),
        help="auto: a live bar on a terminal, otherwise plain lines.",
    ),
    click.option(
        "--logging-verbosity",
        default="info",
        show_default=True,
        type=click.Choice(["DEBUG", "INFO", "WARN", "ERROR", "FATAL"], case_sensitive=False),
        help="Lowest level of the messages on stderr.",
    ),
)


def _options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(cls=GroupedCommand, groups=_GROUPS)
@source_options
@output_dir_option
@_options
@json_option
def train(progress_form: Any, logging_verbosity: Any, as_json: bool, **options: Any) -> None:
    """Train the final layer on the photos of DIR, which has one sub-folder for each class."""
    from retrain.training.train import train as run

    def take(kind: Any) -> dict[str, Any]:
        """Remove the options that are fields of the dataclass `kind`, and return them."""
        names = [name for name in kind.__dataclass_fields__ if name in options]
        return {name: options.pop(name) for name in names}

    split = SplitSettings(**take(SplitSettings), salt=options.pop("split_salt"))
    head, distortion = HeadSettings(**take(HeadSettings)), Distortion(**take(Distortion))
    paths = take(TrainSettings)
    settings = TrainSettings(
        source(**options), split=split, head=head, distortion=distortion, **paths
    )
    result = run(settings, progress(progress_form, logging_verbosity.upper()))
    if as_json:
        say(json.dumps(result.to_json()))
        return
    say(f"Final test accuracy = {result.test.accuracy}")
    say(f"Written to {settings.output_dir}: output_graph.pb, output_labels.txt, metrics.json")
