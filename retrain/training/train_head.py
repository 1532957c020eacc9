"""Run the training of the head: print steps, write events, checkpoints and intermediate graphs."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploy import files
from deploy.errors import BadData
from deploy.system.counts import with_noun
from deploy.system.temporary_files import sweep
from retrain.backbones import Backbone
from retrain.data import split
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.training import TrainSettings
from retrain.training.checkpoint import (
    Checkpoint,
    read_checkpoint,
    run_key,
    write_checkpoint,
)
from retrain.training.export_graph import export_graph
from retrain.training.fit_head import StepReport, fit_head
from retrain.training.head import Head
from retrain.training.load_examples import TrainingData
from retrain.training.tensorboard import EventWriter
from retrain.training.trained_network import LinearNetwork

_STAGE = ""
"""The stage of the curve."""
_PRINTED_STEPS = 10
"""About how many steps of a run are printed."""


def train_head(
    settings: TrainSettings, data: TrainingData, events: EventWriter, progress: Progress
) -> Head:
    """Train on `data` and return the best head of the run.

    Writes a checkpoint after each round. Raises BadData if no head has a finite cross entropy, and
    for a checkpoint to resume from that is damaged or of another run.
    """
    path = head_checkpoint(settings)
    sweep(path.parent, _intermediate_folder(settings))
    key = run_key(settings, data.backbone.fingerprint, data.dataset.photos, data.splits)
    checkpoint = _resume(path, key, progress) if settings.resume else None
    if checkpoint:
        events.continue_curve(_STAGE, checkpoint.curve)
    steps = settings.head.how_many_training_steps
    step = checkpoint.step if checkpoint else 0
    training, validation = data.examples[split.TRAINING], data.examples[split.VALIDATION]
    print_interval = max(1, steps // _PRINTED_STEPS)
    next_printed = 0
    try:
        # Divergence is reported below, not by numpy's warnings.
        with progress.bar("training", steps, "steps", step) as advance, np.errstate(all="ignore"):
            for report in fit_head(
                training, validation, len(data.labels), settings.head, checkpoint
            ):
                events.write_scores(
                    report.step, report.train, report.validation, report.learning_rate, _STAGE
                )
                if report.step >= next_printed:
                    _print_step(report, progress)
                    next_printed = report.step + print_interval
                _write_intermediate_graph(report, settings, data.backbone)
                if report.checkpoint:
                    checkpoint = replace(report.checkpoint, curve=tuple(events.curves[_STAGE]))
                    events.write_layer(
                        report.step, report.head.weights, report.head.bias, report.logits
                    )
                    write_checkpoint(path, checkpoint, key)
                advance(report.step + 1 - step)
                step = report.step + 1
    except KeyboardInterrupt:
        if checkpoint:
            progress.info(f"to go on from step {checkpoint.step}: the same command with `resume`")
        raise
    if checkpoint is None or checkpoint.best_cross_entropy == math.inf:
        raise BadData("training diverged, and no weights are usable: lower `learning_rate`")
    if step < steps:
        progress.info(
            f"stopped at step {step}: {with_noun(settings.head.early_stop, 'round')} without "
            "better weights"
        )
    return checkpoint.best


def head_checkpoint(settings: TrainSettings) -> Path:
    """Return the path of the checkpoint of the head."""
    return settings.checkpoint_path or RunFolder(settings.output_dir).checkpoint


def _resume(path: Path, key: str, progress: Progress) -> Checkpoint | None:
    checkpoint = read_checkpoint(path, key)
    if checkpoint is None:
        progress.info(f"{path}: no checkpoint: training from the beginning")
    else:
        progress.info(f"going on at step {checkpoint.step}, from {path}")
    return checkpoint


def _write_intermediate_graph(
    report: StepReport, settings: TrainSettings, backbone: Backbone
) -> None:
    interval = settings.head.intermediate_store_frequency
    if interval and report.step and report.step % interval == 0:
        graph = export_graph(backbone, LinearNetwork(report.head, {}), settings.final_tensor_name)
        path = _intermediate_folder(settings) / f"intermediate_{report.step}.pb"
        files.write(path, graph.graph_def)


def _intermediate_folder(settings: TrainSettings) -> Path:
    return settings.intermediate_output_graphs_dir or settings.output_dir / "intermediate"


def _print_step(report: StepReport, progress: Progress) -> None:
    progress.info(
        f"step {report.step}: train accuracy {report.train.accuracy:.1%}, "
        f"validation accuracy {report.validation.accuracy:.1%}, "
        f"cross entropy {report.train.cross_entropy:.4f}",
        "step",
        step=report.step,
        train=report.train._asdict(),
        validation=report.validation._asdict(),
        learning_rate=report.learning_rate,
    )
