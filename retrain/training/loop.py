"""A training run as it is seen from outside: lines, events, checkpoints, intermediate graphs."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deploy import files
from deploy.errors import BadData
from deploy.system.temporary_files import sweep
from deploy.untrusted_files import damaged, read
from retrain.backbones import Backbone
from retrain.data import split
from retrain.data.photo_folder import Dataset
from retrain.fingerprint import fingerprint
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.training import TrainSettings
from retrain.training import export_graph
from retrain.training.head import Examples, Head
from retrain.training.linear import MAX_CHECKPOINT, Evaluation, State, fit
from retrain.training.tensorboard import Events

_LINES = 10
"""About how many evaluations are printed in a run."""


def learn(
    config: TrainSettings,
    backbone: Backbone,
    examples: dict[str, Examples],
    classes: int,
    key: str,
    board: Events,
    progress: Progress,
) -> Head:
    """Train on `examples` of `classes` classes and return the best head of the run.

    `key` names the run, so that a checkpoint of another is not gone on from.
    """
    path = config.checkpoint_path or RunFolder(config.output_dir).checkpoint
    sweep(path.parent, _intermediate(config))
    state = _checkpoint(path, key, progress) if config.resume else None
    steps, done = config.head.how_many_training_steps, state.step if state else 0
    training, validation = examples[split.TRAINING], examples[split.VALIDATION]
    every = max(1, steps // _LINES)
    shown = -every
    try:
        # What diverges is told below, in our words.
        with progress.bar("training", steps, "steps") as advance, np.errstate(all="ignore"):
            advance(done)
            for each in fit(training, validation, classes, config.head, state):
                board.evaluation(each.step, each.train, each.validation, each.learning_rate)
                if each.step - shown >= every:
                    _print_step(each, progress)
                    shown = each.step
                _store(each, config, backbone)
                if each.state:
                    state = each.state
                    board.layer(each.step, each.head.weights, each.head.bias, each.logits)
                    files.write(path, state.to_bytes(key))
                advance(each.step + 1 - done)
                done = each.step + 1
    except KeyboardInterrupt:
        if state:
            progress.info(f"to go on from step {state.step}: the same command with --resume")
        raise
    if state is None or state.best_cross_entropy == math.inf:
        raise BadData("no weights are any good: training diverged: lower --learning-rate")
    if done < steps:
        progress.info(
            f"stopped at step {done}: {config.head.early_stop} rounds without better weights"
        )
    return state.best


def run_key(config: TrainSettings, backbone: Backbone, photos: Dataset, splits: list[str]) -> str:
    """Return what names a run for its checkpoint: settings, photos and their splits."""
    settings = (asdict(config.head), asdict(config.distortion), config.views, backbone.fingerprint)
    lines = (
        photo.digest + f"{name} {photo.label}\n".encode()
        for photo, name in zip(photos.photos, splits, strict=True)
    )
    return fingerprint(settings, lines)


def _checkpoint(path: Path, key: str, progress: Progress) -> State | None:
    remedy = "leave out --resume to train anew"
    try:
        with damaged(f"{path}: cannot be read", remedy):
            of, state = State.from_bytes(read(path, MAX_CHECKPOINT))
    except FileNotFoundError:
        progress.info(f"{path}: no checkpoint: training from the beginning")
        return None
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror}): {remedy}") from error
    if of != key:
        raise BadData(f"{path}: a checkpoint of other settings or photos: {remedy}")
    progress.info(f"going on at step {state.step}, from {path}")
    return state


def _store(each: Evaluation, config: TrainSettings, backbone: Backbone) -> None:
    frequency = config.head.intermediate_store_frequency
    if frequency and each.step and each.step % frequency == 0:
        frozen = export_graph.frozen_graph(backbone, each.head, config.final_tensor_name)
        files.write(_intermediate(config) / f"intermediate_{each.step}.pb", frozen)


def _intermediate(config: TrainSettings) -> Path:
    return config.intermediate_output_graphs_dir or config.output_dir / "intermediate"


def _print_step(each: Evaluation, progress: Progress) -> None:
    progress.info(
        f"step {each.step}: train accuracy {each.train.accuracy:.1%}, "
        f"validation accuracy {each.validation.accuracy:.1%}, "
        f"cross entropy {each.train.cross_entropy:.4f}",
        "step",
        step=each.step,
        train=each.train._asdict(),
        validation=each.validation._asdict(),
        learning_rate=each.learning_rate,
    )
