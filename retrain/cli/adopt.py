"""`retrain adopt`: make a run from a frozen graph that another program wrote."""

import json
from pathlib import Path
from typing import Any

import click

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.system.terminal import say
from retrain.cli.options import (
    CLASSIFIER_NAMES,
    FOLDER,
    SHARE,
    cache_dir_option,
    classifier_options,
    json_option,
    labels_from_option,
    output_dir_option,
    progress,
    refresh_report,
    report_option,
)
from retrain.settings.cache import default_cache_dir
from retrain.settings.label_image import LabelImageSettings
from retrain.settings.source import Source
from retrain.settings.training import AdoptSettings, SplitSettings

_GROUPS: Groups = {
    "Photos": ("--labels-from", "--testing-percentage", "--validation-percentage"),
    "The graph, if it does not say": CLASSIFIER_NAMES,
    "General": ("--output-dir", "--cache-dir", "--no-report", *GENERAL["General"]),
}


@click.command(cls=GroupedCommand, groups=_GROUPS)
@click.argument("graph", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("photos", type=FOLDER)
@labels_from_option
@output_dir_option
@classifier_options
@click.option(
    "--testing-percentage",
    default=AdoptSettings.split.testing_percentage,
    show_default=True,
    type=SHARE,
    help="Percent of the photos that score the graph.",
)
@click.option(
    "--validation-percentage",
    default=AdoptSettings.split.validation_percentage,
    show_default=True,
    type=SHARE,
    help="Percent of the photos for `retrain convert --reject-rate`. The rest calibrates int8.",
)
@cache_dir_option
@report_option
@json_option
def adopt(
    graph: Path,
    labels: Path,
    photos: Path,
    labels_from: int | None,
    output_dir: Path,
    testing_percentage: float,
    validation_percentage: float,
    cache_dir: Path | None,
    no_report: bool,
    as_json: bool,
    **classifier: Any,
) -> None:
    """Make a run from the frozen graph GRAPH, without training it, and score it on PHOTOS.

    GRAPH is a file such as TensorFlow's retrain.py wrote. The text file LABELS has one label on
    each line. The folder PHOTOS has one sub-folder for each label. `retrain convert` then makes a
    TFLite model of the graph.
    """
    from retrain.training.adopt import adopt as run

    cache_dir = cache_dir or default_cache_dir()
    source = Source(photos, cache_dir=cache_dir, graph=graph, labels_from=labels_from)
    split = SplitSettings(testing_percentage, validation_percentage)
    typed = LabelImageSettings(**classifier)
    stages = progress()
    result = run(AdoptSettings(source, labels, typed, output_dir, split), stages)
    has_report = not no_report and refresh_report(output_dir, stages)
    if as_json:
        say(json.dumps(result.to_json()))
        return
    say(f"Test accuracy = {result.test.accuracy}")
    names = "output_graph.pb, output_labels.txt, metrics.json" + ", report.html" * has_report
    say(f"Written to {output_dir}: {names}")
