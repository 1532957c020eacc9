"""`retrain bottlenecks`: analyse each photo once."""

import json
from dataclasses import asdict
from typing import Any

import click

from deploy.system.terminal import say
from retrain.cli.options import json_option, source, source_options


@click.command()
@source_options
@json_option
def bottlenecks(as_json: bool, **where: Any) -> None:
    """Analyse each photo of DIR once, and keep the result in the cache."""
    from retrain.data.photo_folder import shown
    from retrain.progress import Progress
    from retrain.training.load_examples import analyse

    progress = Progress()
    backbone, dataset, result = analyse(source(**where), progress)
    if as_json:
        found = {
            "schema": 1,
            "photos": len(dataset.photos),
            "analysed": result.analysed,
            "bad": [{"path": shown(bad.path), "reason": bad.reason} for bad in dataset.bad],
            "input": asdict(backbone.spec),
            "graph": str(backbone.graph_path),
            "fingerprint": backbone.fingerprint,
            "seconds": progress.seconds,
        }
        say(json.dumps(found))
    else:
        say(f"{len(dataset.photos)} photos ready, {result.analysed} of them analysed now")
