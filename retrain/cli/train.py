"""`retrain train`: train the head on a folder of photos."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import click

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.cli.numbers import Number
from deploy.errors import WrongUse
from deploy.system.terminal import say
from retrain.cli.options import (
    CACHE_GROUP,
    FILE,
    FOLDER,
    NETWORK_GROUPS,
    SHARE,
    Command,
    json_option,
    output_dir_option,
    progress,
    refresh_report,
    report_option,
    source,
    source_options,
)
from retrain.settings.training import (
    ClassWeight,
    Distortion,
    FineTuneSettings,
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
    "Fine-tuning": ("--fine-tune", "--cut", "--epochs", "--average"),
    "Distorted views": (
        "--flip-left-right",
        "--random-area",
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
        "--no-report",
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
_PERCENT_BELOW_100 = click.IntRange(0, 99)


def _value(name: str, default: Any, kind: Any, text: str) -> Callable[[Command], Command]:
    return click.option(name, default=default, show_default=True, type=kind, help=text)


def _by_stage(
    name: str, default: Any, fine_tuning_default: Any, kind: Any, text: str
) -> Callable[[Command], Command]:
    """Return an option of the head, or with --fine-tune of fine-tuning."""
    defaults = f"[default: {default}; with --fine-tune {fine_tuning_default}]"
    return click.option(name, type=kind, default=None, help=f"{text}  {defaults}")


def _path(name: str, kind: click.Path, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=kind, help=text)


_OPTIONS = (
    _value(
        "--how-many-training-steps",
        HeadSettings.how_many_training_steps,
        click.IntRange(1),
        "Number of training steps.",
    ),
    click.option(
        "--fine-tune",
        is_flag=True,
        help="Train the last blocks of the network too. Then --learning-rate, --weight-decay, "
        "--label-smoothing, --train-batch-size and the options of distorted views are those of "
        "fine-tuning.",
    ),
    click.option(
        "--cut",
        metavar="NAME",
        help="Train what lies above this tensor; `retrain backbones --cuts` lists them.  "
        "[default: chosen by cost]",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1),
        help="Epochs of fine-tuning.  [default: by the number of photos, 12 for 1,000, "
        "or 16 with --average]",
    ),
    click.option(
        "--average",
        type=click.IntRange(1, 100),
        help="Average the weights of so many fine-tunings with different seeds.  "
        f"[default: {FineTuneSettings.average}]",
    ),
    _by_stage(
        "--learning-rate",
        HeadSettings.learning_rate,
        FineTuneSettings.learning_rate,
        Number(0, min_open=True),
        "Highest learning rate.",
    ),
    _value(
        "--optimizer",
        HeadSettings.optimizer,
        click.Choice(get_args(Optimizer)),
        "standardized: SGD on standardized bottlenecks, with a falling rate; sgd: bottlenecks "
        "unchanged and a constant rate, as the classic script.",
    ),
    _by_stage(
        "--weight-decay",
        "0.1 if standardized, 0 if sgd",
        FineTuneSettings.weight_decay,
        Number(0, 10),
        "Weight decay.",
    ),
    _by_stage(
        "--label-smoothing",
        HeadSettings.label_smoothing,
        FineTuneSettings.label_smoothing,
        Number(0, 1, max_open=True),
        "Share of each target spread over all classes.",
    ),
    _value(
        "--class-weight",
        HeadSettings.class_weight,
        click.Choice(get_args(ClassWeight)),
        "balanced: probabilities as if all classes were equally frequent; none: as frequent as "
        "in the folder.",
    ),
    _by_stage(
        "--train-batch-size",
        HeadSettings.train_batch_size,
        FineTuneSettings.train_batch_size,
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
        "Stop after so many rounds (twentieths of the run; of fine-tuning: epochs) without better "
        "weights; 0: never.",
    ),
    _value(
        "--testing-percentage",
        SplitSettings.testing_percentage,
        SHARE,
        "Share of the photos in the test set, percent.",
    ),
    _value(
        "--validation-percentage",
        SplitSettings.validation_percentage,
        SHARE,
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
    _by_stage(
        "--flip-left-right/--no-flip-left-right",
        "no",
        "yes",
        None,
        "Mirror half of the distorted views.",
    ),
    _by_stage(
        "--random-area",
        Distortion.random_area,
        FineTuneSettings.distortion.random_area,
        _PERCENT_BELOW_100,
        "Show a random box of the photo; it leaves out up to so many percent of the area.",
    ),
    _by_stage(
        "--random-crop",
        Distortion.random_crop,
        FineTuneSettings.distortion.random_crop,
        _PERCENT,
        "Margin around the random crop of a view, percent.",
    ),
    _by_stage(
        "--random-scale",
        Distortion.random_scale,
        FineTuneSettings.distortion.random_scale,
        _PERCENT,
        "Largest enlargement of a view, percent.",
    ),
    _by_stage(
        "--random-brightness",
        Distortion.random_brightness,
        FineTuneSettings.distortion.random_brightness,
        _PERCENT,
        "Largest change of a view's brightness, percent.",
    ),
    _by_stage(
        "--random-contrast",
        Distortion.random_contrast,
        FineTuneSettings.distortion.random_contrast,
        _PERCENT,
        "Largest change of a view's contrast, percent.",
    ),
    _by_stage(
        "--random-saturation",
        Distortion.random_saturation,
        FineTuneSettings.distortion.random_saturation,
        _PERCENT,
        "Largest change of how strong a view's colours are, percent.",
    ),
    _by_stage(
        "--views",
        TrainSettings.views,
        "10 for 1,000 photos",
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
@report_option
@json_option
def train(
    progress_form: Any, logging_verbosity: Any, no_report: bool, as_json: bool, **options: Any
) -> None:
    """Train the final layer on the photos of DIR.

    DIR has one sub-folder for each class. It may also be a list of photos, tar files, or a URL.
    """
    from retrain.training.train import train as run

    def take(kind: Any) -> dict[str, Any]:
        """Remove the options that are fields of the dataclass `kind`; return those with a value."""
        names = [name for name in kind.__dataclass_fields__ if name in options]
        values = {name: options.pop(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    split = SplitSettings(**take(SplitSettings), salt=options.pop("split_salt"))
    distortion = take(Distortion)
    stages: dict[str, Any] = {}
    if options.pop("fine_tune"):
        views = replace(FineTuneSettings.distortion, **distortion)
        stages["fine_tuning"] = FineTuneSettings(**take(FineTuneSettings), distortion=views)
    else:
        for name in ("cut", "epochs", "average"):
            if options.pop(name) is not None:
                raise WrongUse(f"--{name} is for --fine-tune: add it")
        stages["distortion"] = Distortion(**distortion)
        if options["views"] is not None and not stages["distortion"].active:
            raise WrongUse(
                "--views counts distorted views: add an option that distorts them, such as "
                "--flip-left-right, or --fine-tune"
            )
    stages["head"] = HeadSettings(**take(HeadSettings))
    paths = take(TrainSettings)
    settings = TrainSettings(source(**options), split=split, **stages, **paths)
    monitor = progress(progress_form, logging_verbosity.upper())
    result = run(settings, monitor)
    has_report = not no_report and refresh_report(settings.output_dir, monitor)
    if as_json:
        say(json.dumps(result.to_json()))
        return
    say(f"Final test accuracy = {result.test.accuracy}")
    names = "output_graph.pb, output_labels.txt, metrics.json" + ", report.html" * has_report
    say(f"Written to {settings.output_dir}: {names}")
