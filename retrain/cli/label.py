"""`retrain label`: the device's command, and the frozen graph beside it."""

from pathlib import Path

import click

from deploy.errors import WrongUse
from deploy.label import agreed, label_options, open_model, show_labels
from retrain.cli.options import FILE


@click.command()
@label_options
@click.option("--graph", type=FILE, help="A frozen graph, instead of the TFLite model.")
@click.option("--output-layer", help="The graph's operation that gives probabilities.")
@click.option("--image", type=FILE, help="The same as PHOTO.")
def label(
    photos: tuple[str, ...],
    model: Path,
    labels: Path | None,
    threads: int,
    top: int,
    threshold: float,
    as_json: bool,
    graph: Path | None,
    output_layer: str | None,
    image: Path | None,
) -> None:
    """Print the best labels of each PHOTO, with their probabilities.

    A PHOTO is a file, a folder, a pattern such as 'photos/*.jpg', or - for the bytes of one photo
    on standard input.
    """
    if output_layer and not graph:
        raise WrongUse("--output-layer is of a frozen graph: name one with --graph")
    if image:
        photos = (*photos, str(image))
    if graph:
        from retrain.graph_classifier import GraphClassifier

        classifier = agreed(GraphClassifier.open(graph, output_layer), labels, graph)
    else:
        classifier = open_model(model, labels, threads)
    show_labels(photos, classifier, top, threshold, as_json)
