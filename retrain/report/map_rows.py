"""Choose the photos whose activation maps the page shows, and draw them."""

from collections.abc import Sequence

from deploy.errors import RetrainError
from retrain.data.photo import Photo
from retrain.data.take_in_turn import take_in_turn
from retrain.predictions import Prediction
from retrain.progress import Progress
from retrain.report import activation_maps
from retrain.report.examination import reason_of
from retrain.report.page_values import MapRow
from retrain.report.photo_book import PhotoBook
from retrain.report.run_inputs import RunInputs

_MAX_WRONG, _MAX_TYPICAL = 12, 8


def map_rows(
    inputs: RunInputs, wrong_rows: Sequence[Prediction], book: PhotoBook, progress: Progress
) -> tuple[tuple[MapRow, ...], str | None]:
    """Return maps of misclassified and of typical photos, or why there are none."""
    is_published = (
        not inputs.is_adopted and not inputs.is_fine_tuned and inputs.source.graph is None
    )
    contract, graph = inputs.run.read_graph()
    try:
        network = activation_maps.load_network(graph, inputs.source, is_published)
    except (RetrainError, OSError) as error:
        reason = f"The network could not be prepared: {reason_of(error, inputs)}."
        progress.warn(f"there are no activation maps: {reason}")
        return (), reason
    if network is None:
        return (), (
            f"{contract.backbone} has no such map: its bottleneck is not the mean of a feature "
            "map, from which each place's share could be read."
        )
    surest = sorted(
        (row for row in inputs.test_rows if row.is_right), key=lambda row: -row.probability
    )
    typical = take_in_turn(
        [
            replaced
            for label in contract.labels
            for replaced in inputs.photos_of(row for row in surest if row.label == label)
        ],
        _MAX_TYPICAL,
    )
    rows = [row for row in wrong_rows[:_MAX_WRONG] if row.digest in inputs.photo_of]
    chosen: list[tuple[Photo, tuple[str, ...]]] = [
        (inputs.photo_of[row.digest], (row.predicted, row.label)) for row in rows
    ]
    chosen += [(photo, (photo.label,)) for photo in typical]
    drawn = activation_maps.draw_maps(network, contract.input, contract.labels, chosen)
    return tuple(
        MapRow(activation, book.show(activation.photo), len(activation.labels) == 1)
        for activation in drawn
    ), None
