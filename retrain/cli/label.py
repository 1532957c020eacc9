"""`retrain label`: classify photos, by the TFLite model as on a device, or by a frozen graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli import name_options
from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.cli.label import check_labels, label_options, open_model, show_labels
from deploy.cli.typed import typed
from deploy.errors import BadData, RetrainError, WrongUse
from deploy.system.terminal import say
from retrain.cli.options import CLASSIFIER_NAMES, FILE, classifier_options

if TYPE_CHECKING:
    from retrain.conversion.graph_classifier import GraphClassifier


_GROUPS: Groups = {
    "Model": ("--model", "--labels", "--threads"),
    "Output": ("--top", "--threshold"),
    **GENERAL,
    "A frozen graph instead of a model": ("--graph", *CLASSIFIER_NAMES),
    "As in label_image.py": ("--image", "--num-top-predictions"),
}


@click.command(cls=GroupedCommand, groups=_GROUPS)
@label_options
@click.option(
    "--graph", type=FILE, help="Classify with this frozen graph instead of the TFLite model."
)
@classifier_options
@click.option("--image", type=FILE, help="The same as PHOTO.")
@click.option("--num-top-predictions", type=click.IntRange(min=1), help="The same as --top.")
def label(
    photos: tuple[str, ...],
    model: Path,
    labels: Path | None,
    threads: int,
    top: int,
    threshold: float,
    as_json: bool,
    graph: Path | None,
    image: Path | None,
    num_top_predictions: int | None,
    **options: Any,
) -> None:
    """Print the best labels of each PHOTO, with their probabilities.

    A PHOTO is a file, a folder, a pattern such as 'photos/*.jpg', or - for the bytes of one photo
    on standard input.
    """
    for name, value in options.items():
        if value is not None and not graph:
            option = f"--{name.replace('_', '-')}"
            raise WrongUse(f"{option} describes a frozen graph: name one with --graph")
    if graph:
        for name in typed(["model", "threads"]):
            raise WrongUse(f"`{name}` is for a TFLite model: leave it out, or leave out `graph`")
    if len(typed(["top", "num_top_predictions"])) == 2 and top != num_top_predictions:
        raise WrongUse("`num_top_predictions` is the same as `top`: name one of them")
    if image:
        photos = (*photos, str(image))
    if not graph:
        warn_of_old_model(model)
    classifier = _by_graph(graph, labels, options) if graph else open_model(model, labels, threads)
    show_labels(photos, classifier, num_top_predictions or top, threshold, as_json)


def warn_of_old_model(model: Path) -> None:
    """Warn if `model` is that of a run which was trained again since, or whose conversion failed.

    Then it is not what `retrain bundle` would ship. Nothing is said of other .tflite files.
    """
    from deploy import model_file

    try:
        from retrain.run_folder import RunFolder
    except ModuleNotFoundError:  # on a device, where nothing is trained
        return
    run = RunFolder(model.parent)
    if model != run.model:
        return
    try:
        model_file.read(model)
    except (RetrainError, OSError):  # whoever opens it says why it cannot be opened
        return
    try:
        run.accepted_model()
    except (RetrainError, OSError) as error:
        say(f"Warning: {error}. The labels here are those of {model}", err=True)


def _by_graph(graph: Path, labels: Path | None, options: dict[str, Any]) -> "GraphClassifier":
    """Return the classifier of a frozen graph, as its contract.json or else its nodes say."""
    from retrain.backbones.custom.classifier import require_same
    from retrain.conversion.graph_classifier import GraphClassifier
    from retrain.run_folder import RunFolder
    from retrain.settings.label_image import LabelImageSettings

    settings, run = LabelImageSettings(**options), RunFolder(graph.parent)
    contract = run.contract
    if contract.exists():
        classifier = GraphClassifier.open(graph, settings.output_layer)
        require_same(settings, classifier.contract.input, contract)
        check_labels(classifier, labels, graph)
        return classifier
    if labels is None:
        raise BadData(
            f"{contract}: no such file: run `{run.command('train', 'DIR')}` first, or name the "
            "labels file of a graph that another program wrote with --labels"
        )
    classifier, assumed = GraphClassifier.open_foreign(graph, labels, settings)
    if assumed:
        warning = (
            f"Warning: {graph} does not say how it takes a photo: {', '.join(assumed)} are "
            "assumed, as by label_image.py; if the labels are wrong, type the values of the "
            "network"
        )
        say(name_options(warning, click.get_current_context().command), err=True)
    return classifier
