"""`retrain label`: the device's command, and the frozen graph beside it."""

from pathlib import Path

import click

from deploy.cli import agreed, label_options, model_classifier, show_labels
from deploy.errors import WrongUse
from retrain.cli.options import FILE


@click.command()
@label_options
@click.option("--graph", type=FILE, help="A frozen graph, instead of the TFLite model.")
@click.option("--output-layer", help="The graph's operation that gives probabilities.")
@click.option("--image", type=FILE, help="The same as PHOTO.")
def label(
    photos: tuple[Path, ...],
    model: Path,
    labels: Path | None,
    threads: int,
    top: int,
    as_json: bool,
    graph: Path | None,
    output_layer: str | None,
    image: Path | None,
) -> None:
    """Print the best labels of each PHOTO, with their probabilities."""
    if output_layer and not graph:
        raise WrongUse("--output-layer is of a frozen graph: name one with --graph")
    if image:
        photos = (*photos, image)
    if graph:
        from retrain.graph_classifier import GraphClassifier

        classify = agreed(GraphClassifier.open(graph, output_layer), labels, graph, top)
    else:
        classify = model_classifier(model, labels, threads, top)
    show_labels(photos, classify, as_json)
