"""Collect what the page of a run shows, as values in the order of the page."""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.record import BenchRecord, RunnerRecord
from deploy.errors import BadData
from retrain.data import split
from retrain.data.photo_folder import Photo, shown
from retrain.data.take_in_turn import take_in_turn
from retrain.doctor import examine
from retrain.doctor.finding import Finding
from retrain.metrics import Accuracy, ClassScore, class_scores, confusion_matrix
from retrain.predictions import Prediction
from retrain.progress import Progress
from retrain.report import activation_maps, findings, learning_curve, photo_facts, plots
from retrain.report.activation_maps import ActivationMap
from retrain.report.advice import Action, ConfusedPair, advise, when_to_stop
from retrain.report.learning_curve import LearningCurve
from retrain.report.photo_book import PhotoBook
from retrain.report.photo_facts import PhotoFacts
from retrain.report.plots import Plot
from retrain.report.run_inputs import RunInputs
from retrain.run_folder import RunFolder
from retrain.settings.training import HeadSettings, TrainSettings

MAX_MATRIX_CLASSES = 20
"""Of more classes the page shows the pairs that are confused most, without the matrix."""
_MAX_PAIRS = 12
_MAX_MAPPED_WRONG, _MAX_MAPPED_TYPICAL = 12, 8
_MIN_FINDING_PHOTOS, _MAX_FINDING_PHOTOS = 24, 60

Value = TypeVar("Value")


@dataclass(frozen=True)
class Count:
    """A number of photos, and the gallery of them; None without any."""

    value: int
    gallery: int | None


@dataclass(frozen=True)
class Column:
    """Where the network runs: the graph, the model or a device, with texts by figure.

    `missing` is the command that measures it, if it is not measured yet; `accuracy` is None where
    it is not known.
    """

    name: str
    detail: str
    accuracy: Accuracy | None = None
    right: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    missing: str | None = None


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class: photos by split, scores, and the photos behind them.

    `with_twice` is the recall to expect with twice the training photos, 0..1.
    """

    label: str
    splits: tuple[Count, ...]
    score: ClassScore
    right: Count
    wrong: Count
    taken_for_it: Count
    with_twice: float | None


@dataclass(frozen=True)
class Change:
    """A class before and after: test photos that both graphs saw, right before and after.

    `mended` were wrong before, `broken` right.
    """

    label: str
    photos: int
    before: int
    after: int
    mended: Count
    broken: Count


@dataclass(frozen=True)
class PairRow:
    """Photos of `label` that were taken for `predicted`."""

    label: str
    predicted: str
    photos: Count


@dataclass(frozen=True)
class LatencyRow:
    """What `retrain bench` or a device measured of a file."""

    model: str
    where: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class FindingRow:
    """A finding with its photos: number in the book, name, why, and whether it is suggested.

    `retrain doctor --apply` takes these names in a list.
    """

    finding: Finding
    photos: tuple[tuple[int, str, str, bool], ...]
    gallery: int | None
    left_out: int


@dataclass(frozen=True)
class MapRow:
    """An activation map, the number of its photo in the book, and what the network said."""

    activation: ActivationMap
    number: int
    is_right: bool


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    folder: str
    network: str
    photos: Count
    labels: tuple[str, ...]
    accuracy: Accuracy
    all_tested: Count
    right: Count
    wrong: Count
    columns: tuple[Column, ...]
    actions: tuple[tuple[Action, int | None], ...]
    may_stop: bool
    stop: str
    changes: tuple[Change, ...]
    rows: tuple[ClassRow, ...]
    matrix: tuple[tuple[Count, ...], ...] | None
    pairs: tuple[PairRow, ...]
    worst: tuple[tuple[int, Prediction], ...]
    disagreements: tuple[tuple[int, Prediction, Prediction], ...]
    disagreement: Count | None
    calibration: Plot
    calibration_error: float
    threshold: Plot
    curves: tuple[tuple[str, tuple[Plot, ...]], ...]
    learning: Plot | None
    maps: tuple[MapRow, ...]
    no_maps: str | None
    facts: tuple[tuple[str, str, Count | None], ...]
    bad: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    findings: tuple[FindingRow, ...]
    not_examined: str | None
    latency: tuple[LatencyRow, ...]
    bench_command: str
    settings: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    seconds: tuple[tuple[str, str], ...]
    book: PhotoBook


def collect(inputs: RunInputs, progress: Progress) -> Report:
    """Return what the page of a run shows; what is missing and costs seconds is computed."""
    diagnosis, curve, not_examined = _examined(inputs, progress)
    book = PhotoBook(inputs.source.image_dir.absolute())
    book.know(inputs.manifest, inputs.rows)
    tested = inputs.test_rows
    labels = inputs.contract.labels

    def count(title: str, rows: Iterable[Prediction]) -> Count:
        members = list(rows)
        return Count(len(members), book.gallery(title, inputs.photos_of(members)))

    wrong_rows = _worst_first(row for row in tested if not row.is_right)
    wrong = count("Misclassified test photos, the worst first", wrong_rows)
    finding_rows = tuple(_finding_row(finding, book) for finding in diagnosis)
    disagreements, disagreement = _disagreements(inputs, book, count)
    by_cell = defaultdict(list)
    for row in _worst_first(tested):
        by_cell[row.label, row.predicted].append(row)
    pair_rows = sorted(
        (cell for cell in by_cell if cell[0] != cell[1]), key=lambda cell: -len(by_cell[cell])
    )
    pairs = tuple(
        PairRow(
            label, predicted, count(f"{label}, taken for {predicted}", by_cell[label, predicted])
        )
        for label, predicted in pair_rows[:_MAX_PAIRS]
    )
    matrix = None
    if len(labels) <= MAX_MATRIX_CLASSES:
        matrix = tuple(
            tuple(
                count(
                    f"{label}, recognised" if label == other else f"{label}, taken for {other}",
                    by_cell[label, other],
                )
                for other in labels
            )
            for label in labels
        )
    loss = inputs.conversion.parity.drop if inputs.conversion else None
    actions = advise(
        inputs.accuracy,
        len(inputs.manifest),
        diagnosis,
        curve,
        _pairs(by_cell),
        loss,
        _command(inputs.run, "convert", "--choose"),
        _fine_tune_command(inputs),
    )
    may_stop, stop = when_to_stop(inputs.accuracy, actions)
    class_rows = _class_rows(inputs, curve, book, count)
    maps, no_maps = _maps(inputs, wrong_rows, book)
    photos = [photo for photo, _ in inputs.manifest]
    facts = (*_facts(photo_facts.measure(photos), book), *_copies(inputs, book))
    metrics = inputs.metrics
    return Report(
        title=inputs.source.image_dir.name,
        folder=shown(inputs.run.folder.absolute()),
        network=inputs.contract.backbone,
        photos=Count(len(inputs.manifest), None),
        labels=labels,
        accuracy=inputs.accuracy,
        all_tested=count("Test photos", _worst_first(tested)),
        right=count("Test photos that are right, the least sure first", _least_sure(tested)),
        wrong=wrong,
        columns=_columns(inputs),
        actions=tuple(
            (action, _action_gallery(action, finding_rows, by_cell, count)) for action in actions
        ),
        may_stop=may_stop,
        stop=stop,
        changes=_changes(inputs, count),
        rows=class_rows,
        matrix=matrix,
        pairs=pairs,
        worst=tuple(
            (book.show(inputs.photo_of[row.digest]), row)
            for row in wrong_rows[:24]
            if row.digest in inputs.photo_of
        ),
        disagreements=disagreements,
        disagreement=disagreement if inputs.model_rows else None,
        calibration=plots.calibration(tested),
        calibration_error=metrics.object("test").number("expected_calibration_error"),
        threshold=plots.threshold(inputs.model_rows or tested, _threshold(inputs)),
        curves=_curves(inputs),
        learning=plots.learning(curve) if curve else None,
        maps=maps,
        no_maps=no_maps,
        facts=facts,
        bad=tuple(
            (book.name(Path(file.text("path"))), file.text("reason"))
            for file in metrics.objects("bad")
        ),
        warnings=metrics.texts("warnings"),
        findings=finding_rows,
        not_examined=not_examined,
        latency=_latency(inputs),
        bench_command=_command(inputs.run, "bench"),
        settings=_settings(metrics.object("settings").values),
        versions=tuple(sorted(metrics.object("versions").values.items())),
        seconds=tuple(
            (name, f"{seconds:.1f}") for name, seconds in metrics.object("seconds").values.items()
        ),
        book=book,
    )


def _examined(
    inputs: RunInputs, progress: Progress
) -> tuple[tuple[Finding, ...], LearningCurve | None, str | None]:
    """Return the doctor's findings and the learning curve; measure what the run lacks.

    Where the photos cannot be examined, such as on another machine, the reason comes last.
    """
    diagnosis = findings.read(inputs)
    path, graph_sha256 = inputs.run.learning_curve, inputs.contract.graph_sha256
    curve = learning_curve.read(path, graph_sha256)
    needs_curve = curve is None and not inputs.is_adopted
    if diagnosis is not None and not needs_curve:
        return diagnosis, curve, None
    try:
        data = examine.load(inputs.source, inputs.split_settings, progress, inputs.adopted_labels)
    except BadData as error:
        return diagnosis or (), curve, str(error)
    if diagnosis is None:
        diagnosis = findings.examine_photos(inputs, data, progress)
    if needs_curve:
        with progress.stage("learning curve"):
            seed = inputs.metrics.object("settings").object("head").integer("seed")
            curve = learning_curve.measure(data, HeadSettings(seed=seed), graph_sha256)
            learning_curve.write(path, curve)
    return diagnosis, curve, None


def _worst_first(rows: Iterable[Prediction]) -> list[Prediction]:
    """Return rows in the order of how much the network prefers another label to their own."""
    return sorted(rows, key=lambda row: (row.label_probability - row.probability, row.path))


def _least_sure(rows: Iterable[Prediction]) -> list[Prediction]:
    return sorted((row for row in rows if row.is_right), key=lambda row: row.probability)


def _pairs(by_cell: dict[tuple[str, str], list[Prediction]]) -> list[ConfusedPair]:
    """Return the pairs of classes with photos taken for each other, the most first."""
    counts: Counter[tuple[str, ...]] = Counter()
    for (label, predicted), rows in by_cell.items():
        if label != predicted:
            counts[tuple(sorted((label, predicted)))] += len(rows)
    return [ConfusedPair((first, second), n) for (first, second), n in counts.most_common()]


def _fine_tune_command(inputs: RunInputs) -> str | None:
    """Return the command that fine-tunes on the same photos; None where that was done."""
    if inputs.is_adopted or inputs.metrics.object_or_none("fine_tuning"):
        return None
    words = ["train", shown(inputs.source.image_dir), "--fine-tune"]
    if inputs.source.graph:
        words += ["--graph", shown(inputs.source.graph)]
    elif inputs.source.architecture != type(inputs.source).architecture:
        words += ["--architecture", inputs.source.architecture]
    return _command(inputs.run, *words)


def _command(run: RunFolder, *words: str) -> str:
    """Return the command of `words` for the run's folder."""
    is_usual = run.folder == TrainSettings.output_dir
    return shlex.join(
        ("retrain", *words, *(() if is_usual else ("--output-dir", shown(run.folder))))
    )


def _threshold(inputs: RunInputs) -> float | None:
    rejection = inputs.conversion.rejection if inputs.conversion else None
    return rejection.threshold if rejection else None


def _columns(inputs: RunInputs) -> tuple[Column, ...]:
    """Return the graph, the model and the device side by side."""
    run, conversion = inputs.run, inputs.conversion
    graph_bytes = run.graph.stat().st_size
    graph = Column(
        "Graph",
        "output_graph.pb, float32",
        inputs.accuracy,
        inputs.accuracy.right,
        (("size", _megabytes(graph_bytes)), ("time of a photo", _time(inputs, run.graph.name))),
    )
    nowhere = Column("Device", "not installed yet", missing=_command(run, "push", "USER@HOST"))
    if not conversion:
        return (
            graph,
            Column("Model", "not converted yet", missing=_command(run, "convert")),
            nowhere,
        )
    parity = conversion.parity
    model = Column(
        "Model",
        f"model.tflite, {conversion.recipe}",
        parity.model,
        parity.model.right,
        (
            ("size", _megabytes(conversion.model_bytes)),
            ("time of a photo", _time(inputs, run.model.name)),
            ("same best label as the graph", f"{parity.agreement:.1%}"),
        ),
    )
    if not inputs.device:
        return graph, model, nowhere
    test = inputs.device.selftest
    goldens = test.goldens
    facts = [("size", _megabytes(conversion.model_bytes))]
    if test.ms:
        facts.append(("time of a photo", f"{sum(test.ms.values()):.1f} ms"))
    if goldens:
        facts.append(("goldens that agree", f"{goldens.right} of {goldens.total}"))
    return (
        graph,
        model,
        Column(
            "Device",
            f"{inputs.device.host}: {test.device.board or test.device.cpu}",
            facts=tuple(facts),
        ),
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _runner(record: BenchRecord, name: str) -> RunnerRecord | None:
    """Return the figures of the file `name` on one thread, or on the fewest."""
    runners = [runner for runner in record.runners if runner.model == name]
    return min(runners, key=lambda runner: (runner.threads, runner.ms.p50), default=None)


def _time(inputs: RunInputs, name: str) -> str:
    """Return the median time of a call on the machine of the bench."""
    runners = [_runner(record, name) for record in inputs.bench]
    measured = [
        f"{runner.ms.p50:.1f} ms" + " (busy machine)" * runner.is_busy
        for runner in runners
        if runner
    ]
    return " / ".join(measured) if measured else "not measured"


def _latency(inputs: RunInputs) -> tuple[LatencyRow, ...]:
    rows = []
    for record in inputs.bench:
        machine = f"{record.machine.cpu}, {record.machine.cores} cores"
        for runner in record.runners:
            ms = runner.ms
            threads = f"{runner.threads} thread" + "s" * (runner.threads > 1)
            where = f"{machine}, {runner.runtime} {runner.version}, {threads}"
            star = "*" if runner.is_busy else ""
            texts = (
                f"{star}{ms.p50:.2f}",
                f"{ms.p90:.2f}",
                f"{ms.p99:.2f}",
                _megabytes(runner.size_bytes),
                f"{runner.peak_rss_bytes / 1e6:.0f} MB",
            )
            rows.append(LatencyRow(runner.model, where, texts))
    if inputs.device and inputs.device.selftest.ms:
        test = inputs.device.selftest
        total = sum((test.ms or {}).values())
        runtime = f", {test.runtime.name} {test.runtime.version}" if test.runtime else ""
        size = _megabytes(test.bytes) if test.bytes else ""
        where = f"{inputs.device.host}, {test.device.board or test.device.cpu}{runtime}"
        rows.append(LatencyRow("model.tflite", where, (f"{total:.2f}", "", "", size, "")))
    return tuple(rows)


def _class_rows(
    inputs: RunInputs,
    curve: LearningCurve | None,
    book: PhotoBook,
    count: Callable[[str, Iterable[Prediction]], Count],
) -> tuple[ClassRow, ...]:
    labels, tested = inputs.contract.labels, inputs.test_rows
    index = {label: i for i, label in enumerate(labels)}
    predicted = np.array([index[row.predicted] for row in tested])
    true = np.array([index[row.label] for row in tested])
    scores = class_scores(confusion_matrix(predicted, true, len(labels)))
    later = _recall_with_twice(curve, labels)
    photos: dict[tuple[str, str], list[Photo]] = defaultdict(list)
    for photo, name in inputs.manifest:
        photos[photo.label, name].append(photo)
    rows = []
    for label, score in zip(labels, scores, strict=True):
        splits = tuple(
            Count(
                len(photos[label, name]),
                book.gallery(f"{label}: photos for {name}", photos[label, name]),
            )
            for name in split.SPLITS
        )
        own = [row for row in tested if row.label == label]
        rows.append(
            ClassRow(
                label,
                splits,
                score,
                count(f"{label}, recognised; the least sure first", _least_sure(own)),
                count(
                    f"{label}, taken for another class",
                    _worst_first(row for row in own if not row.is_right),
                ),
                count(
                    f"Taken for {label}, and another class",
                    _worst_first(
                        row for row in tested if row.predicted == label and not row.is_right
                    ),
                ),
                later[label],
            )
        )
    return tuple(rows)


def _recall_with_twice(
    curve: LearningCurve | None, labels: Sequence[str]
) -> dict[str, float | None]:
    if curve is None or curve.labels != tuple(labels):
        return dict.fromkeys(labels)
    _, errors = curve.errors_with_twice()
    return {
        label: None if error is None else 1 - error
        for label, error in zip(labels, errors, strict=True)
    }


def _changes(
    inputs: RunInputs, count: Callable[[str, Iterable[Prediction]], Count]
) -> tuple[Change, ...]:
    """Return each class before and after, on the test photos that both graphs saw."""
    before = {row.digest: row for row in inputs.previous_rows if row.split == split.TESTING}
    both = [(before[row.digest], row) for row in inputs.test_rows if row.digest in before]
    changes = []
    for label in ("", *inputs.contract.labels):
        members = [(old, new) for old, new in both if label in ("", new.label)]
        if not members:
            continue
        # A photo counts by its present label, so that both networks are measured alike.
        was_right = [old.predicted == new.label for old, new in members]
        rows = [new for _, new in members]
        zipped = list(zip(was_right, rows, strict=True))
        changes.append(
            Change(
                label,
                len(members),
                sum(was_right),
                sum(row.is_right for row in rows),
                count(
                    f"{label or 'All classes'}: right now, wrong before",
                    (row for right, row in zipped if row.is_right and not right),
                ),
                count(
                    f"{label or 'All classes'}: wrong now, right before",
                    (row for right, row in zipped if right and not row.is_right),
                ),
            )
        )
    return tuple(changes)


def _disagreements(
    inputs: RunInputs, book: PhotoBook, count: Callable[[str, Iterable[Prediction]], Count]
) -> tuple[tuple[tuple[int, Prediction, Prediction], ...], Count]:
    """Return photos whose best label differs between graph and model, the surest first."""
    of_model = {row.digest: row for row in inputs.model_rows}
    rows = [
        (row, of_model[row.digest])
        for row in inputs.test_rows
        if row.digest in of_model and of_model[row.digest].predicted != row.predicted
    ]
    rows.sort(key=lambda pair: -(pair[0].probability + pair[1].probability))
    total = count("Graph and model disagree", (row for row, _ in rows))
    listed = tuple(
        (book.show(inputs.photo_of[row.digest]), row, other)
        for row, other in rows[:12]
        if row.digest in inputs.photo_of
    )
    return listed, total


def _finding_row(finding: Finding, book: PhotoBook) -> FindingRow:
    photos = [Photo(photo.path, photo.label, b"") for photo in finding.photos]
    shown_together: list[Photo] = []
    for member, photo in zip(finding.photos, photos, strict=True):
        shown_together.append(photo)
        if member.other:
            shown_together.append(Photo(member.other, "", b""))
    has_others = len(shown_together) > len(photos)
    title = finding.title + ", each photo before its counterpart" * has_others
    count = min(_MAX_FINDING_PHOTOS, max(_MIN_FINDING_PHOTOS, finding.suggested))
    rows = []
    for number, (member, photo) in enumerate(zip(finding.photos, photos, strict=True)):
        if number < count:
            is_suggested = number < finding.suggested
            rows.append((book.show(photo), book.name(member.path), member.reason, is_suggested))
    return FindingRow(
        finding, tuple(rows), book.gallery(title, shown_together), len(photos) - len(rows)
    )


def _action_gallery(
    action: Action,
    rows: Sequence[FindingRow],
    by_cell: dict[tuple[str, str], list[Prediction]],
    count: Callable[[str, Iterable[Prediction]], Count],
) -> int | None:
    """Return the gallery of the photos that an action is about."""
    if action.finding is not None:
        return rows[action.finding].gallery
    wrong = [
        row
        for (label, predicted), members in by_cell.items()
        for row in members
        if label != predicted and label in action.labels
    ]
    if not wrong:
        return None
    title = f"Misclassified test photos of {' and '.join(action.labels)}"
    return count(title, _worst_first(wrong)).gallery


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


def _maps(
    inputs: RunInputs, wrong_rows: Sequence[Prediction], book: PhotoBook
) -> tuple[tuple[MapRow, ...], str | None]:
    """Return maps of misclassified and of typical photos, or why there are none."""
    fine_tuning = inputs.metrics.object_or_none("fine_tuning")
    is_fine_tuned = fine_tuning is not None and fine_tuning.text("kept") != "linear"
    is_published = not inputs.is_adopted and not is_fine_tuned and inputs.source.graph is None
    contract, graph = inputs.run.read_graph()
    network = activation_maps.load_network(graph, inputs.source, is_published)
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
        _MAX_MAPPED_TYPICAL,
    )
    rows = [row for row in wrong_rows[:_MAX_MAPPED_WRONG] if row.digest in inputs.photo_of]
    chosen: list[tuple[Photo, tuple[str, ...]]] = [
        (inputs.photo_of[row.digest], (row.predicted, row.label)) for row in rows
    ]
    chosen += [(photo, (photo.label,)) for photo in typical]
    drawn = activation_maps.draw_maps(network, contract.input, contract.labels, chosen)
    return tuple(
        MapRow(activation, book.show(activation.photo), len(activation.labels) == 1)
        for activation in drawn
    ), None


def _facts(measured: PhotoFacts, book: PhotoBook) -> tuple[tuple[str, str, Count | None], ...]:
    """Return the facts of the files in words, each with the photos behind it."""
    files = measured.files
    if not files:
        return (("files", "no photo can be opened any more", None),)

    def row(name: str, text: str, photos: Sequence[Photo]) -> tuple[str, str, Count]:
        return name, text, Count(len(photos), book.gallery(f"Photos: {name}, {text}", photos))

    few = max(1, min(12, len(files) // 10))
    by_bytes = sorted(files, key=lambda file: file.bytes)
    photos, sizes = [file.photo for file in files], [file.photo for file in by_bytes]
    middle, heavy = files[len(files) // 2], by_bytes[len(files) // 2]
    return (
        *(row("format", name, members) for name, members in measured.formats.items()),
        row("smallest", f"{files[0].width} x {files[0].height} pixels", photos[:few]),
        ("median", f"{middle.width} x {middle.height} pixels", None),
        row("largest", f"{files[-1].width} x {files[-1].height} pixels", photos[::-1][:few]),
        row("smallest file", _kilobytes(by_bytes[0].bytes), sizes[:few]),
        ("median file", _kilobytes(heavy.bytes), None),
        row("largest file", _kilobytes(by_bytes[-1].bytes), sizes[::-1][:few]),
    )


def _copies(inputs: RunInputs, book: PhotoBook) -> tuple[tuple[str, str, Count | None], ...]:
    """Return the fact of copies across splits, if they were looked for."""
    if "copies_across_splits" not in inputs.metrics.values:
        return ()
    by_path = {shown(photo.path): photo for photo, _ in inputs.manifest}
    pairs = [pair.texts("paths") for pair in inputs.metrics.objects("copies_across_splits")]
    photos = [by_path[path] for pair in pairs for path in pair if path in by_path]
    text = f"{len(pairs) or 'no'} pairs look the same"
    gallery = book.gallery("Photos that look the same in two splits, in pairs", photos)
    return (("across splits", text, Count(len(photos), gallery) if photos else None),)


def _kilobytes(count: int) -> str:
    return f"{count / 1000:,.0f} kB"


def _settings(values: Any, prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Return every setting with its value as text; those of groups as group.name."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _settings(value, f"{prefix}{name}.")
        elif value is not None:
            rows.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)))
    return tuple(rows)
