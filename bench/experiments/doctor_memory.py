"""Measure the doctor's memory by random bottlenecks: `python -m bench.experiments.doctor_memory`.

Labels and classes are examined. Backgrounds take a sample of bounded size, and copies are found by
thumbnails, which are smaller.
"""

import resource
import sys
import time
from pathlib import Path

import click
import numpy as np

from bench.experiments.shared import json_option, run, save
from deploy.contract import InputSpec
from deploy.system.terminal import say
from retrain.backbones import Backbone
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.data.dataset import Dataset
from retrain.data.folder_layout import ClassFolder
from retrain.data.photo import Photo
from retrain.data.photo_table import PhotoTable
from retrain.data.split import TRAINING, Splits
from retrain.doctor import classes, labels
from retrain.doctor.examination import Examination
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.training.head import Examples
from retrain.training.load_examples import TrainingData

_WIDTH = 1280
_BLOCK = 5000
_WRONG_SHARE = 0.03
_ROOT = Path("photos")


@click.command()
@click.option("--photos", default=50_000, show_default=True, type=click.IntRange(100))
@click.option("--classes", "class_count", default=20, show_default=True, type=click.IntRange(2))
@json_option
def main(photos: int, class_count: int, output: Path | None) -> None:
    """Examine random bottlenecks, of which 3% have a wrong label; print seconds and memory."""
    data = random_data(photos, class_count)
    examination = Examination(data, Source(_ROOT), Progress(verbosity="ERROR"))
    before = peak_mb()
    start = time.perf_counter()
    findings = [*labels.find(examination), *classes.find(examination)]
    seconds = time.perf_counter() - start
    figures = {
        "photos": photos,
        "classes": class_count,
        "seconds": seconds,
        "before_mb": before,
        "peak_mb": peak_mb(),
        "findings": {finding.kind: len(finding.photos) for finding in findings},
    }
    say(
        f"{photos:,} photos: {seconds:.1f} s, at most {figures['peak_mb']:,.0f} MB, "
        f"{before:,.0f} before; {figures['findings']}"
    )
    if output:
        save(output, figures)


def random_data(photos: int, class_count: int) -> TrainingData:
    """Return normal clusters of bottlenecks, some with the label of another cluster."""
    random = np.random.default_rng(0)
    store = FeatureStore(_WIDTH)
    centres = random.normal(size=(class_count, _WIDTH)).astype(np.float32)
    truth = random.integers(class_count, size=photos)
    for start in range(0, photos, _BLOCK):
        block = centres[truth[start : start + _BLOCK]] * np.float32(0.3)
        store.append(block + random.normal(size=block.shape).astype(np.float32))
    wrong = random.random(photos) < _WRONG_SHARE
    indices = np.where(wrong, random.integers(class_count, size=photos), truth)
    names = tuple(f"class {number:03}" for number in range(class_count))
    members = PhotoTable.of(
        Photo(_ROOT / names[index] / f"{number}.jpg", names[index], number.to_bytes(32))
        for number, index in enumerate(indices.tolist())
    )
    folders = tuple(ClassFolder(name, _ROOT / name) for name in names)
    backbone = Backbone("random", InputSpec(224, 224, None, 0, 1), _WIDTH, "", _ROOT, b"")
    examples = Examples(store, np.arange(photos)[:, np.newaxis], indices)
    return TrainingData(
        backbone,
        Dataset(_ROOT, folders, members, ()),
        names,
        Splits.of([TRAINING] * photos),
        {TRAINING: examples},
        PhotoTable.of(()),
        0,
    )


def peak_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    run(main)
