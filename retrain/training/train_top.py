"""Run fine-tuning: cut, feature maps, training, and the comparison with the linear head."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files
from deploy.errors import BadData
from deploy.system.counts import with_noun
from retrain.backbones import Backbone
from retrain.backbones.cut_points import CutPoint
from retrain.backbones.trunk import load_trunk
from retrain.bottlenecks.extract import DistortedViews
from retrain.data import split
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.settings.training import FineTuneSettings, TrainSettings
from retrain.training.checkpoint import pack, read_members, run_key
from retrain.training.compare_networks import Comparison
from retrain.training.estimate_cost import estimate_cost
from retrain.training.fit_top import EpochReport, FineTuneState, fit_top
from retrain.training.head import Examples, Floats
from retrain.training.load_examples import TrainingData, load_feature_maps
from retrain.training.tensorboard import EventWriter
from retrain.training.top import Top
from retrain.training.train_head import head_checkpoint
from retrain.training.trained_network import FineTunedNetwork, LinearNetwork, TrainedNetwork

_STAGE = "fine_tuning_"
"""The stage of the curve."""
_CHECKPOINT_INTERVAL_S = 20.0
"""Least time between checkpoints: writing one of a large network takes as long as many steps."""


@dataclass(frozen=True)
class FineTuning:
    """What fine-tuning did, beside the figures of the network that ships.

    `epochs` are those of each of the `runs` that did not stop early, `views` the distorted views of
    each training photo. `linear_test` and `fine_tuned_test` are the accuracies of both networks on
    the test photos.
    """

    cut: CutPoint
    epochs: int
    views: int
    runs: int
    comparison: Comparison
    linear_test: Accuracy
    fine_tuned_test: Accuracy

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "cut": asdict(self.cut),
            "epochs": self.epochs,
            "views": self.views,
            "runs": self.runs,
            "validation": self.comparison.to_json(),
            "kept": "fine-tuned" if self.comparison.keeps_fine_tuned else "linear",
            "linear_test": self.linear_test.to_json(),
            "fine_tuned_test": self.fine_tuned_test.to_json(),
        }


@contextmanager
def fine_tuned_network(
    settings: TrainSettings,
    fine_tuning: FineTuneSettings,
    cut: CutPoint,
    data: TrainingData,
    linear: LinearNetwork,
    events: EventWriter,
    progress: Progress,
) -> Iterator[tuple[TrainedNetwork, FineTuning]]:
    """Yield the better one of `linear` and the network that is fine-tuned from it, above `cut`.

    Writes a checkpoint now and again. Raises BadData for a network that cannot be trained, for
    training that diverges, and for a checkpoint to resume from that is damaged or of another run.
    """
    photos = len(data.examples[split.TRAINING].labels)
    epochs, views = fine_tuning.epochs_for(photos), fine_tuning.views_for(photos)
    with progress.stage("feature maps"):
        trunk = load_trunk(data.backbone, cut, settings.source.cache_dir)
    with ExitStack() as stack:
        with progress.stage("fine-tune"):
            top = stack.enter_context(
                closing(Top(data.backbone, trunk, cut.shape, len(data.labels)))
            )
            start = top.initial(linear.head)
            cost = estimate_cost(top, trunk, start, data.dataset.photos, photos, fine_tuning)
            size = "x".join(map(str, cut.shape))
            progress.info(
                f"fine-tuning above {cut.name} ({size}, {cut.share_above:.0%} of the "
                f"multiply-adds): {with_noun(epochs, 'epoch')} of {with_noun(photos, 'photo')} "
                f"with {with_noun(views, 'view')} each: {cost}"
            )
        distorted = DistortedViews(views, fine_tuning.distortion)
        maps = load_feature_maps(data, trunk, distorted, settings, progress)
        with progress.stage("fine-tune"):
            state = _train(settings, fine_tuning, data, trunk, top, start, maps, events, progress)
            network = FineTunedNetwork(top, top.rounded(state.average), maps, progress)
            labels = data.examples[split.VALIDATION].labels
            comparison = Comparison.of(
                linear.logits_of(split.VALIDATION), network.logits_of(split.VALIDATION), labels
            )
            progress.info(str(comparison))
            test_labels = data.examples[split.TESTING].labels
            record = FineTuning(
                cut,
                epochs,
                views,
                state.runs,
                comparison,
                Accuracy.of(linear.logits_of(split.TESTING), test_labels),
                Accuracy.of(network.logits_of(split.TESTING), test_labels),
            )
        yield (network if comparison.keeps_fine_tuned else linear), record


def _train(
    settings: TrainSettings,
    fine_tuning: FineTuneSettings,
    data: TrainingData,
    trunk: Backbone,
    top: Top,
    start: Sequence[Floats],
    maps: Mapping[str, Examples],
    events: EventWriter,
    progress: Progress,
) -> FineTuneState:
    """Return the state after training from `start`."""
    path = fine_tuning_checkpoint(settings)
    key = run_key(settings, trunk.fingerprint, data.dataset.photos, data.splits, fine_tuning)
    state = _resume(path, key, start, fine_tuning.average) if settings.resume else None
    training, validation = maps[split.TRAINING], maps[split.VALIDATION]
    photos = len(training.labels)
    epochs = fine_tuning.epochs_for(photos)
    total = fine_tuning.average * epochs * photos
    if state:
        epochs_before = with_noun(state.epoch, "epoch")
        progress.info(f"going on after {epochs_before} of run {state.runs + 1}, from {path}")
    elif settings.resume:
        progress.info(f"{path}: no checkpoint: fine-tuning from the beginning")
    state = state or FineTuneState.start(start)
    events.continue_curve(_STAGE, state.curve)
    written_s = time.monotonic()
    try:
        # Divergence is an error of `fit_top`, not a warning of numpy's.
        trained = (state.runs * epochs + state.epoch) * photos
        bar = progress.bar("fine-tuning", total, "photos", trained)
        with bar as advance, np.errstate(all="ignore"):
            for report in fit_top(
                top, training, validation, start, settings.head, fine_tuning, state
            ):
                state = report.state
                _print_epoch(report, fine_tuning.average, progress)
                events.write_scores(
                    report.run * epochs + report.epoch,
                    report.train,
                    report.validation,
                    report.learning_rate,
                    _STAGE,
                )
                is_last = state.runs == fine_tuning.average
                if is_last or time.monotonic() - written_s >= _CHECKPOINT_INTERVAL_S:
                    state = replace(state, curve=tuple(events.curves[_STAGE]))
                    files.write(path, pack(key, state.to_members()))
                    written_s = time.monotonic()
                advance(photos)
    except KeyboardInterrupt:
        if path.exists():
            progress.info("to go on from the last checkpoint: the same command with `resume`")
        raise
    return state


def _resume(path: Path, key: str, start: Sequence[Floats], average: int) -> FineTuneState | None:
    """Return the state in the checkpoint at `path`, None without a file."""
    shapes = [values.shape for values in start]
    state = read_members(path, key, partial(FineTuneState.from_members, shapes=shapes))
    if state and state.runs > average:
        raise BadData(
            f"{path}: the average of {with_noun(state.runs, 'run')}, more than `average` "
            f"{average}: leave out `resume` to train anew"
        )
    return state


def fine_tuning_checkpoint(settings: TrainSettings) -> Path:
    """Return the path of the checkpoint of fine-tuning: beside that of the head."""
    path = head_checkpoint(settings)
    return path.with_name(f"{path.stem}_fine_tuning{path.suffix}")


def _print_epoch(report: EpochReport, runs: int, progress: Progress) -> None:
    run = f"run {report.run + 1}, " if runs > 1 else ""
    progress.info(
        f"{run}epoch {report.epoch}: train accuracy {report.train.accuracy:.1%}, "
        f"validation accuracy {report.validation.accuracy:.1%}, "
        f"cross entropy {report.validation.cross_entropy:.4f}",
        "epoch",
        run=report.run,
        epoch=report.epoch,
        train=report.train._asdict(),
        validation=report.validation._asdict(),
        learning_rate=report.learning_rate,
    )
