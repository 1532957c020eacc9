"""Measure what following the doctor's advice brings: `python -m bench.experiments.advice DIR...`.

Of the photos of each DIR, a share is for the test. Of the others some labels are swapped, the
photos that `retrain doctor --quarantine` suggests are set aside, and the head is trained on what
is left. With no swapped label, the figures say what the advice costs.
"""

import random
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import click
import numpy as np

from bench.experiments.doctor import Figures, rates
from bench.experiments.shared import (
    cache_dir_option,
    folders_argument,
    json_option,
    retrain,
    run,
    save,
    seeds_option,
)
from bench.experiments.spoil import swap
from deploy.system.terminal import say_table
from retrain.doctor import examine
from retrain.doctor.out_of_fold import all_examples
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.settings.source import Source
from retrain.settings.training import HeadSettings, SplitSettings
from retrain.training.fit_head import fit_head
from retrain.training.head import Examples, Head
from retrain.training.load_examples import TrainingData

_VALIDATION_SHARE = 0.1


@click.command()
@folders_argument
@seeds_option
@click.option(
    "--swapped",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 50),
    help="Percent of the labels that are swapped.",
)
@click.option(
    "--testing",
    default=40.0,
    show_default=True,
    type=click.FloatRange(0, 90, min_open=True),
    help="Percent of the photos that are for the test.",
)
@cache_dir_option
@json_option
def main(
    folders: tuple[Path, ...],
    seeds: int,
    swapped: float,
    testing: float,
    cache_dir: Path,
    output: Path | None,
) -> None:
    """Measure the accuracy that the advice on labels gains back, on photos of each DIR."""
    cache = ("--cache-dir", str(cache_dir))
    measured: list[Figures] = []
    for folder in folders:
        source = Source(folder, cache_dir=cache_dir)
        data = examine.load(source, SplitSettings(), Progress(verbosity="ERROR"))
        rows: list[Figures] = []
        measured.append(
            {"photos": folder.name, "rows": rows, "swapped": swapped, "testing": testing}
        )
        for seed in range(1, seeds + 1):
            rows.append(measure(data, seed, swapped / 100, testing / 100, cache))
            say_table(f"{folder.name}, seeds 1 to {seed}\n{table(rows)}\n")
            if output:
                save(output, {"measured": measured})


def measure(
    data: TrainingData, seed: int, swapped_share: float, test_share: float, cache: Sequence[str]
) -> Figures:
    """Return the accuracy on untouched photos after training on clean, swapped and mended ones.

    The doctor does not get the photos for the test. Of the others a tenth validates.
    """
    draw = random.Random(seed)  # noqa: S311 (no secret)
    examples = all_examples(data)
    numbers = list(range(len(examples.labels)))
    draw.shuffle(numbers)
    test_count = round(test_share * len(numbers))
    test, rest = np.array(numbers[:test_count]), numbers[test_count:]
    validates = frozenset(draw.sample(rest, round(_VALIDATION_SHARE * len(rest))))

    def accuracy(labels: Mapping[int, str]) -> float:
        """Return the test accuracy after training on the photos of these numbers."""
        head = train(data, examples, labels, validates)
        logits = head.logits(examples.store.take(examples.rows[test, 0]))
        return Accuracy.of(logits, examples.labels[test]).value

    with TemporaryDirectory(prefix="retrain-") as temporary:
        photos = Path(temporary, "photos")
        for number in rest:
            photo = data.dataset.photos[number]
            (photos / photo.label).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo.path, photos / photo.label / f"{number}{photo.path.suffix}")
        figures: Figures = {"seed": seed, "clean": accuracy(labels_below(photos))}
        paths = sorted(photos.glob("*/*"))
        swapped = swap(photos, paths, round(swapped_share * len(paths)), draw)
        figures["swapped"] = accuracy(labels_below(photos))
        where = ("--kind", "wrong-label", "--quarantine", str(Path(temporary, "quarantine")))
        record = retrain("doctor", str(photos), *where, *cache)
        suggested = [
            Path(photo["path"])
            for finding in record["findings"]
            for photo in finding["photos"][: finding["suggested"]]
        ]
        figures["suggested"] = rates(suggested, swapped)
        figures["mended"] = accuracy(labels_below(photos))
    return figures


def labels_below(folder: Path) -> dict[int, str]:
    """Return the label of each photo below `folder`, by the number at the end of its name."""
    return {int(path.stem.rpartition("-")[2]): path.parent.name for path in folder.glob("*/*")}


def train(
    data: TrainingData, examples: Examples, labels: Mapping[int, str], validates: Collection[int]
) -> Head:
    """Return the head that `retrain train` would train on photos with these labels, by number.

    Its other work, such as the export, has no part in the accuracy.
    """
    indices = {number: data.labels.index(label) for number, label in labels.items()}

    def examples_of(numbers: list[int]) -> Examples:
        chosen = np.array([indices[number] for number in numbers])
        return Examples(examples.store, examples.rows[numbers], chosen)

    training = examples_of(sorted(labels.keys() - set(validates)))
    validation = examples_of(sorted(labels.keys() & set(validates)))
    settings = HeadSettings(eval_step_interval=HeadSettings.how_many_training_steps)
    *_, report = fit_head(training, validation, len(data.labels), settings)
    return report.checkpoint.best if report.checkpoint else report.head


def summarise(rows: Sequence[Figures]) -> Figures:
    """Return points lost and gained back, and the share gained, with their standard errors.

    The share is of the sums over the seeds; its error is that of the jackknife.
    """
    lost = 100 * np.array([row["clean"] - row["swapped"] for row in rows])
    gained = 100 * np.array([row["mended"] - row["swapped"] for row in rows])
    count = len(rows)
    figures: Figures = {
        "seeds": count,
        **{name: mean(row[name] for row in rows) for name in ("clean", "swapped", "mended")},
        "lost": float(lost.mean()),
        "gained": float(gained.mean()),
        "share": float(gained.sum() / lost.sum()) if lost.sum() else None,
    }
    if count > 1:
        figures["lost_error"] = float(lost.std(ddof=1) / np.sqrt(count))
        figures["gained_error"] = float(gained.std(ddof=1) / np.sqrt(count))
        left = lost.sum() - lost
        if left.all():
            without = (gained.sum() - gained) / left
            spread = ((without - without.mean()) ** 2).sum()
            figures["share_error"] = float(np.sqrt((count - 1) / count * spread))
    return figures


def table(rows: Sequence[Figures]) -> str:
    """Return a line for each seed, and their means."""
    lines = [f"{'seed':<6}{'clean':>8}{'swapped':>9}{'mended':>8}{'suggested':>11}{'right':>7}"]
    for row in rows:
        suggested = row["suggested"]
        right = suggested.get("precision")
        lines.append(
            f"{row['seed']:<6}{row['clean']:>8.1%}{row['swapped']:>9.1%}{row['mended']:>8.1%}"
            f"{suggested['named']:>11}{'-' if right is None else format(right, '.0%'):>7}"
        )
    figures = summarise(rows)
    text = f"lost {figures['lost']:.2f} points, gained back {figures['gained']:.2f}"
    if "lost_error" in figures:
        text = (
            f"lost {figures['lost']:.2f} +- {figures['lost_error']:.2f} points, "
            f"gained back {figures['gained']:.2f} +- {figures['gained_error']:.2f}"
        )
    if figures["share"] is not None and rows[0]["suggested"].get("recall") is not None:
        error = figures.get("share_error")
        text += f": {figures['share']:.0%}" + (f" +- {100 * error:.0f}" if error else "")
    return "\n".join([*lines, text])


if __name__ == "__main__":
    run(main)
