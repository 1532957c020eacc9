"""Collect what the page of a run shows, as values in the order of the page."""

import json
from functools import partial
from typing import Any

from retrain.data.photo import shown
from retrain.data.remote_path import photo_path
from retrain.progress import Progress
from retrain.report import confusion, plots
from retrain.report.advice import when_to_stop
from retrain.report.class_rows import class_rows
from retrain.report.columns import columns
from retrain.report.commands import command, convert_command, doctor_command
from retrain.report.compare_predictions import changes, disagreements
from retrain.report.examination import examine_run
from retrain.report.fact_rows import fact_rows
from retrain.report.finding_rows import finding_row
from retrain.report.latency import latency_rows
from retrain.report.map_rows import map_rows
from retrain.report.next_actions import gallery_of, next_actions
from retrain.report.page_values import Count, Report
from retrain.report.photo_book import PhotoBook
from retrain.report.photo_counts import count_rows, least_sure, worst_first
from retrain.report.plots import Plot
from retrain.report.run_inputs import RunInputs


def collect(inputs: RunInputs, progress: Progress) -> Report:
    """Return what the page of a run shows; what is missing and costs seconds is computed."""
    diagnosis, curve, not_examined = examine_run(inputs, progress)
    # The heads of the curve are on the network as it was before fine-tuning.
    own_curve = None if inputs.is_fine_tuned else curve
    place = photo_path(inputs.source.image_dir)
    book = PhotoBook(place.absolute())
    book.know(inputs.manifest, inputs.rows)
    count = partial(count_rows, inputs, book)
    tested, metrics = inputs.test_rows, inputs.metrics
    wrong_rows = worst_first(row for row in tested if not row.is_right)
    # The page has pictures of the galleries in the order in which they are made.
    wrong = count("Misclassified test photos, the worst first", wrong_rows)
    finding_rows = tuple(finding_row(finding, book) for finding in diagnosis)
    disagreement_rows, disagreement = disagreements(inputs, book)
    cells = confusion.cells_of(inputs)
    pairs = confusion.pair_rows(inputs, book, cells)
    matrix = confusion.matrix(inputs, book, cells)
    actions = next_actions(inputs, diagnosis, own_curve, cells)
    may_stop, stop = when_to_stop(inputs.accuracy, actions, inputs.model_loss)
    rows = class_rows(inputs, own_curve, book)
    maps, no_maps = map_rows(inputs, wrong_rows, book, progress)
    facts = fact_rows(inputs, book)
    return Report(
        title=place.name,
        folder=shown(inputs.run.folder.absolute()),
        network=inputs.contract.backbone,
        photos=Count(len(inputs.manifest), None),
        labels=inputs.contract.labels,
        accuracy=inputs.accuracy,
        all_tested=count("Test photos", worst_first(tested)),
        right=count("Test photos that are right, the least sure first", least_sure(tested)),
        wrong=wrong,
        columns=columns(inputs),
        actions=tuple(
            (action, gallery_of(action, inputs, finding_rows, cells, book)) for action in actions
        ),
        may_stop=may_stop,
        stop=stop,
        changes=changes(inputs, book),
        rows=rows,
        matrix=matrix,
        pairs=pairs,
        worst=tuple(
            (book.show(inputs.photo_of[row.digest]), row)
            for row in wrong_rows[:24]
            if row.digest in inputs.photo_of
        ),
        disagreements=disagreement_rows,
        disagreement=disagreement if inputs.model_rows else None,
        calibration=plots.calibration(tested),
        calibration_error=metrics.object("test").number("expected_calibration_error"),
        threshold=plots.threshold(inputs.model_rows or tested, _threshold(inputs)),
        curves=_curves(inputs),
        learning=plots.learning(curve) if curve else None,
        is_fine_tuned=inputs.is_fine_tuned,
        maps=maps,
        no_maps=no_maps,
        facts=facts,
        bad=tuple(
            (book.name(photo_path(file.text("path"))), file.text("reason"))
            for file in metrics.objects("bad")
        ),
        bad_count=metrics.integer("bad_count", default=len(metrics.objects("bad"))),
        warnings=metrics.texts("warnings"),
        findings=finding_rows,
        not_examined=not_examined,
        latency=latency_rows(inputs),
        bench_command=command(inputs.run, "bench"),
        reject_command=convert_command(
            inputs, "--reject-rate", "0.05", without=("reject_rate", "explain")
        ),
        doctor_command=doctor_command(inputs.run),
        settings=_settings(metrics.object("settings").values),
        versions=tuple(sorted(metrics.object("versions").values.items())),
        seconds=tuple(
            (name, f"{seconds:.1f}") for name, seconds in metrics.object("seconds").values.items()
        ),
        book=book,
    )


def _threshold(inputs: RunInputs) -> float | None:
    rejection = inputs.conversion.rejection if inputs.conversion else None
    return rejection.threshold if rejection else None


def _curves(inputs: RunInputs) -> tuple[tuple[str, tuple[Plot, ...]], ...]:
    stages = inputs.metrics.object_or_none("curves")
    if not stages:
        return ()
    titles = {"linear": ("The final layer", "steps"), "fine_tuning": ("Fine-tuning", "epochs")}
    return tuple(
        (title, tuple(plots.curves(f"curve-{name}", stages.object(name), unit)))
        for name, (title, unit) in titles.items()
        if name in stages.values
    )


def _settings(values: Any, prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Return every setting with its value as text; those of groups as group.name."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _settings(value, f"{prefix}{name}.")
        elif value is not None:
            rows.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)))
    return tuple(rows)
