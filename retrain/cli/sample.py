"""`retrain sample`: put a sample data set into a folder."""

import json
from pathlib import Path

import click

from deploy.system.terminal import say
from retrain.data.sample_datasets import SAMPLES, put
from retrain.progress import Progress


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("name", type=click.Choice(list(SAMPLES)))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def sample(name: str, folder: Path, as_json: bool) -> None:
    """Put a sample data set into the new folder DIR, one sub-folder a class.

    solar-cells: 2,223 photos, functional or defective, from a Python package.

    flowers: 3,670 photos of five kinds, a download of 229 MB.
    """
    chosen = SAMPLES[name]
    photos, existed = put(chosen, folder, Progress())
    state = "already there" if existed else "ready"
    say(f"{folder}: {state}, {sum(photos.values()):,} photos", err=True)
    say(
        f"The photos are {chosen.terms}, from {chosen.source}; "
        f"{folder / 'LICENSE.txt'} names their authors.",
        err=True,
    )
    if as_json:
        result = {
            "schema": 1,
            "sample": name,
            "folder": str(folder),
            "photos": photos,
            "license": chosen.terms,
            "source": chosen.source,
        }
        say(json.dumps(result))
        return
    width = max(map(len, photos))
    for label, count in photos.items():
        say(f"{label:{width}}  {count:5}")
