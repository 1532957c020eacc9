"""`retrain bottlenecks`: analyse each photo once."""

import json
from dataclasses import asdict
from typing import Any

import click

from deploy.system.terminal import say
from retrain.cli.options import json_option, progress, source, source_options


@click.command()
@source_options
@json_option
def bottlenecks(as_json: bool, **where: Any) -> None:
    """Analyse each photo of DIR once, and keep the result in the cache."""
    from retrain.data.photo_folder import shown
    from retrain.training.load_examples import analyse

    shown_progress = progress()
    backbone, result = analyse(source(**where), shown_progress)
    if as_json:
        found = {
            "schema": 1,
            "photos": len(result.dataset.photos),
            "analysed": result.analysed,
            "bad": [{"path": shown(bad.path), "reason": bad.reason} for bad in result.dataset.bad],
            "input": asdict(backbone.spec),
            "graph": str(backbone.graph_path),
            "fingerprint": backbone.fingerprint,
            "seconds": shown_progress.seconds,
        }
        say(json.dumps(found))
    else:
        say(f"{len(result.dataset.photos)} photos ready, {result.analysed} of them analysed now")
