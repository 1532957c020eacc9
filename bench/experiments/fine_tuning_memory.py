"""Fine-tune on many photos, for the memory: `python -m bench.experiments.fine_tuning_memory DIR`.

The photos are copies of those of DIR, each with its number behind the picture, so that each is
another photo to the cache. One epoch is trained, with one view of each photo and an empty cache.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench.experiments.shared import find_photos, json_option, run, run_with_memory, save
from deploy.system.terminal import say


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--photos", default=20_000, show_default=True, type=click.IntRange(1000))
@json_option
def main(folder: Path, photos: int, output: Path | None) -> None:
    """Fine-tune on PHOTOS copies of the photos in DIR; print seconds and the most memory."""
    with TemporaryDirectory(prefix="retrain-") as temporary:
        place = Path(temporary)
        copy_numbered(folder, place / "photos", photos)
        options = ("--fine-tune", "--epochs", "1", "--views", "1", "--json")
        places = ("--cache-dir", str(place / "cache"), "--output-dir", str(place / "run"))
        command = (sys.executable, "-m", "retrain", "train", str(place / "photos"))
        finished = run_with_memory((*command, *options, *places))
    stages = json.loads(finished.stdout)["seconds"]
    say(f"{photos:,} photos: {sum(stages.values()):.0f} s, at most {finished.peak_mb:,.0f} MB")
    if output:
        save(output, {"photos": photos, "peak_mb": finished.peak_mb, "stages": stages})


def copy_numbered(folder: Path, target: Path, count: int) -> None:
    """Write `count` copies of the photos of `folder` to `target`, each of other bytes."""
    originals = find_photos(folder)
    for number in range(count):
        original = originals[number % len(originals)]
        copy = target / original.parent.name / f"{number}-{original.name}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(original.read_bytes() + number.to_bytes(4))


if __name__ == "__main__":
    run(main)
