"""`retrain sample`: put a sample data set into a folder."""

import json
from pathlib import Path

import click

from deploy.system.terminal import say
from retrain.data.sample_datasets import SAMPLES, put


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("name", type=click.Choice(list(SAMPLES)))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def sample(name: str, folder: Path, as_json: bool) -> None:
    """Put a sample data set into the new folder DIR, one sub-folder a class.

    solar-cells: 2,223 photos, functional or defective, from a Python package.

    flowers: 3,670 photos of five kinds, a download of 229 MB.
    """
    wanted = SAMPLES[name]
    photos, there = put(wanted, folder)
    state = "already there" if there else "ready"
    say(f"{folder}: {state}, {sum(photos.values()):,} photos", err=True)
    say(
        f"The photos are {wanted.terms}, from {wanted.source}; "
        f"{folder / 'LICENSE.txt'} names their authors.",
        err=True,
    )
    if as_json:
        result = {
            "schema": 1,
            "sample": name,
            "folder": str(folder),
            "photos": photos,
            "license": wanted.terms,
            "source": wanted.source,
        }
        say(json.dumps(result))
        return
    width = max(map(len, photos))
    for label, count in photos.items():
        say(f"{label:{width}}  {count:5}")
