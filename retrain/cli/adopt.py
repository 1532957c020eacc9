"""`retrain adopt`: make a run from a frozen graph that another program wrote."""

import json
from pathlib import Path
from typing import Any

import click

from deploy.system.terminal import say
from retrain.cli.options import (
    FOLDER,
    cache_dir_option,
    classifier_options,
    json_option,
    labels_from_option,
    output_dir_option,
    progress,
)

_PERCENT = click.FloatRange(0, 100, min_open=True, max_open=True)


@click.command()
@click.argument("graph", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("photos", type=FOLDER)
@labels_from_option
@output_dir_option
@classifier_options
@click.option(
    "--testing-percentage",
    default=60.0,
    show_default=True,
    type=_PERCENT,
    help="Percent of the photos that score the graph.",
)
@click.option(
    "--validation-percentage",
    default=10.0,
    show_default=True,
    type=_PERCENT,
    help="Percent of the photos for `retrain convert --reject-rate`. The rest calibrates int8.",
)
@cache_dir_option
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
    as_json: bool,
    **typed: Any,
) -> None:
    """Make a run from the frozen graph GRAPH, without training it, and score it on PHOTOS.

    GRAPH is a file such as TensorFlow's retrain.py wrote. The text file LABELS has one label on
    each line. The folder PHOTOS has one sub-folder for each label. `retrain convert` then makes a
    TFLite model of the graph.
    """
    from retrain.metrics import Accuracy
    from retrain.settings.label_image import LabelImageSettings
    from retrain.settings.training import Source, SplitSettings, default_cache_dir
    from retrain.training.adopt import AdoptConfig
    from retrain.training.adopt import adopt as run

    source = Source(
        photos, cache_dir=cache_dir or default_cache_dir(), graph=graph, labels_from=labels_from
    )
    shares = SplitSettings(testing_percentage, validation_percentage)
    metrics = run(
        AdoptConfig(source, labels, LabelImageSettings(**typed), output_dir, shares), progress()
    )
    if as_json:
        say(json.dumps(metrics))
        return
    accuracy = Accuracy(metrics["test"]["right"], metrics["test"]["total"])
    say(f"Test accuracy = {accuracy}")
    say(f"Written to {output_dir}: output_graph.pb, output_labels.txt, metrics.json")
