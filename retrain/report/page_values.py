"""Define what the page of a run shows, as values."""

from dataclasses import dataclass

from retrain.doctor.finding import Finding
from retrain.metrics import Accuracy, ClassScore
from retrain.predictions import Prediction
from retrain.report.activation_maps import ActivationMap
from retrain.report.advice import Action
from retrain.report.photo_book import PhotoBook
from retrain.report.plots import Plot


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

    `tested` counts the photos of the test, which may be fewer than those of its split.
    `gain_with_twice` is how much the recall may grow with twice the training photos, 0..1.
    """

    label: str
    splits: tuple[Count, ...]
    score: ClassScore
    tested: int
    right: Count
    wrong: Count
    taken_for_it: Count
    gain_with_twice: float | None


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
    is_fine_tuned: bool
    maps: tuple[MapRow, ...]
    no_maps: str | None
    facts: tuple[tuple[str, str, Count | None], ...]
    bad: tuple[tuple[str, str], ...]
    bad_count: int
    warnings: tuple[str, ...]
    findings: tuple[FindingRow, ...]
    not_examined: str | None
    latency: tuple[LatencyRow, ...]
    bench_command: str
    reject_command: str
    doctor_command: str
    settings: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    seconds: tuple[tuple[str, str], ...]
    book: PhotoBook

    @property
    def inflating(self) -> int | None:
        """The number of the finding whose photos make the accuracy too good by most points."""
        points = [row.finding.inflation or 0 for row in self.findings]
        return points.index(max(points)) if max(points, default=0) > 0 else None
