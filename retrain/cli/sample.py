"""`retrain sample`: put a sample data set into a folder."""

import json
from pathlib import Path

import click

from deploy.system.terminal import say
from retrain.cli.options import FOLDER, json_option, progress
from retrain.data.sample_datasets import SAMPLES, put


@click.command()
@json_option
@click.argument("name", type=click.Choice(list(SAMPLES)))
@click.argument("folder", metavar="DIR", type=FOLDER)
def sample(name: str, folder: Path, as_json: bool) -> None:
    """Put a sample data set into the new folder DIR, with one sub-folder for each class.

    solar-cells: 2,223 photos of functional and defective cells, from a Python package.

    flowers: 3,670 photos of five kinds of flowers, a download of 229 MB.
    """
    sample_set = SAMPLES[name]
    photos, was_there = put(sample_set, folder, progress())
    state = "already there" if was_there else "ready"
    say(f"{folder}: {state}, {sum(photos.values()):,} photos", err=True)
    say(
        f"The photos are {sample_set.terms}, from {sample_set.source}; "
        f"{folder / 'LICENSE.txt'} names their authors.",
        err=True,
    )
    if as_json:
        result = {
            "schema": 1,
            "sample": name,
            "folder": str(folder),
            "photos": photos,
            "license": sample_set.terms,
            "source": sample_set.source,
        }
        say(json.dumps(result))
        return
    width = max(map(len, photos))
    for label, count in photos.items():
        say(f"{label:{width}}  {count:5}")
