"""Read what the stages of a run wrote, as far as it is of the run's present graph and model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from bench.record import BenchRecord
from deploy import versioned_json
from deploy.cli.selftest import SelfTest
from deploy.contract import Contract
from deploy.errors import BadData, WrongUse
from deploy.untrusted_files import read_json
from deploy.versioned_json import Fields
from retrain.conversion.result import ConversionResult
from retrain.data import split
from retrain.data.manifest import Manifest, read_manifest
from retrain.data.photo import Photo
from retrain.metrics import Accuracy
from retrain.predictions import Prediction, read_predictions
from retrain.report.bench_figures import read_bench
from retrain.run_folder import METRICS_VERSION, RunFolder, is_fine_tuned
from retrain.settings.conversion import ConvertSettings
from retrain.settings.doctor import MAX_EXAMINED
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings, TrainSettings
from retrain.training.read_run import read_settings, read_train_settings

_PUSH_VERSION = 1


@dataclass(frozen=True)
class DeviceTest:
    """The self-test of the run's model on a device: the name of its host, and the result."""

    host: str
    selftest: SelfTest


@dataclass(frozen=True)
class RunInputs:
    """What the files of a run hold.

    `rows` are the predictions of the graph, `model_rows` those of the model for the test photos,
    `previous_rows` those of the graph before; they are empty where there are none, as `bench` is.
    `adopted_labels` are the labels of a graph of another program, None for one trained here.
    `conversion` and `device` are None unless they are of the run's model.
    """

    run: RunFolder
    contract: Contract
    metrics: Fields
    source: Source
    split_settings: SplitSettings
    adopted_labels: tuple[str, ...] | None
    manifest: Manifest
    rows: Sequence[Prediction]
    previous_rows: Sequence[Prediction]
    conversion: ConversionResult | None
    model_rows: Sequence[Prediction]
    bench: tuple[BenchRecord, ...]
    device: DeviceTest | None

    @cached_property
    def is_adopted(self) -> bool:
        """Whether the graph is of another program."""
        return self.adopted_labels is not None

    @cached_property
    def settings(self) -> TrainSettings:
        """The settings of the training; a graph of another program has none."""
        return read_train_settings(self.metrics)

    @cached_property
    def convert_settings(self) -> ConvertSettings:
        """The settings of the last conversion, also of another graph; the defaults without one."""
        try:
            return ConversionResult.read(self.run.conversion).settings or ConvertSettings()
        except BadData:
            return ConvertSettings()

    @cached_property
    def is_fine_tuned(self) -> bool:
        """Whether the network is the fine-tuned one: its bottlenecks are not the backbone's."""
        return is_fine_tuned(self.metrics)

    @cached_property
    def test_rows(self) -> tuple[Prediction, ...]:
        """The graph's predictions for the test photos."""
        return tuple(row for row in self.rows if row.split == split.TESTING)

    @cached_property
    def accuracy(self) -> Accuracy:
        """The graph's accuracy on the test photos."""
        return Accuracy(sum(row.is_right for row in self.test_rows), len(self.test_rows))

    @cached_property
    def model_loss(self) -> float | None:
        """The points of accuracy that the model is below the graph; None without a model."""
        return self.conversion.parity.drop if self.conversion else None

    @cached_property
    def photo_of(self) -> Mapping[bytes, Photo]:
        """The photos of the manifest by digest."""
        return {photo.digest: photo for photo, _ in self.manifest}

    def photos_of(self, rows: Iterable[Prediction]) -> list[Photo]:
        """Return the photos of predictions, as far as the manifest has them."""
        return [self.photo_of[row.digest] for row in rows if row.digest in self.photo_of]


def read_inputs(run: RunFolder) -> RunInputs:
    """Return what the files of `run` hold.

    Raises BadData if a file of its training is damaged, WrongUse for more than MAX_EXAMINED photos.
    """
    contract = run.read_contract()
    remedy = f"run `{run.command('train', 'DIR')}`"
    record = read_json(run.metrics, remedy)
    metrics = versioned_json.read(record, str(run.metrics), METRICS_VERSION, remedy)
    if metrics.text("graph_sha256") != contract.graph_sha256:
        raise BadData(f"{run.metrics}: measured on another graph than {run.graph}: {remedy}")
    counts = metrics.object("split")
    photos = sum(counts.integer(name) for name in counts.values)
    if photos > MAX_EXAMINED:
        raise WrongUse(f"{photos:,} photos: at most {MAX_EXAMINED:,} are shown in a report")
    rows = _rows(run.predictions, remedy, contract.graph_sha256)
    if not any(row.split == split.TESTING for row in rows):
        raise BadData(f"{run.predictions}: no predictions of this graph: {remedy} again")
    model_sha256 = sha256(run.model.read_bytes()).hexdigest() if run.model.exists() else ""
    conversion = _conversion(run, model_sha256, contract.graph_sha256)
    return RunInputs(
        run,
        contract,
        metrics,
        *read_settings(run),
        read_manifest(run.manifest),
        rows,
        _rows(run.previous_predictions, remedy),
        conversion,
        _rows(run.model_predictions, f"run `{run.command('convert')}`", model_sha256)
        if conversion
        else (),
        read_bench(run),
        _device(run, model_sha256),
    )


def _rows(path: Path, remedy: str, sha256: str | None = None) -> Sequence[Prediction]:
    """Return the predictions at `path`; () without a file, or if it is of another network.

    Raises BadData, with `remedy`, if it is damaged.
    """
    try:
        predictions = read_predictions(path, remedy)
    except FileNotFoundError:
        return ()
    return predictions.rows if sha256 in (None, predictions.sha256) else ()


def _conversion(run: RunFolder, model_sha256: str, graph_sha256: str) -> ConversionResult | None:
    if not model_sha256 or not run.conversion.exists():
        return None
    conversion = ConversionResult.read(run.conversion)
    matches = (conversion.model_sha256, conversion.graph_sha256) == (model_sha256, graph_sha256)
    return conversion if matches else None


def _device(run: RunFolder, model_sha256: str) -> DeviceTest | None:
    path = run.push
    if not path.exists():
        return None
    remedy = f"run `{run.command('push', 'USER@HOST')}`"
    fields = versioned_json.read(read_json(path, remedy), str(path), _PUSH_VERSION, remedy)
    selftest = SelfTest.from_json(fields.object("selftest").values, str(path), remedy)
    return DeviceTest(fields.text("host"), selftest) if selftest.sha256 == model_sha256 else None
