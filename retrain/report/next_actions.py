"""Show what to do next, with the photos that each action is about."""

from collections.abc import Sequence

from retrain.doctor.finding import Finding
from retrain.report.advice import Action, advise
from retrain.report.commands import choose_command, fine_tune_command
from retrain.report.confusion import Cells, confused_pairs, wrong_by_label
from retrain.report.learning_curve import LearningCurve
from retrain.report.page_values import FindingRow
from retrain.report.photo_book import PhotoBook
from retrain.report.photo_counts import count_rows, worst_first
from retrain.report.run_inputs import RunInputs


def next_actions(
    inputs: RunInputs, findings: Sequence[Finding], curve: LearningCurve | None, cells: Cells
) -> list[Action]:
    """Return what to do next with the photos and the network of a run, by expected gain."""
    return advise(
        inputs.accuracy,
        len(inputs.manifest),
        findings,
        curve,
        confused_pairs(cells),
        wrong_by_label(cells),
        inputs.model_loss,
        choose_command(inputs),
        fine_tune_command(inputs),
    )


def gallery_of(
    action: Action,
    inputs: RunInputs,
    rows: Sequence[FindingRow],
    cells: Cells,
    book: PhotoBook,
) -> int | None:
    """Return the gallery of the photos that an action is about."""
    if action.finding is not None:
        return rows[action.finding].gallery
    wrong = [
        row
        for (label, predicted), members in cells.items()
        for row in members
        if label != predicted and label in action.labels
    ]
    if not wrong:
        return None
    title = f"Misclassified test photos of {' and '.join(action.labels)}"
    return count_rows(inputs, book, title, worst_first(wrong)).gallery
