"""`retrain bottlenecks`: compute the bottleneck of each photo."""

import json
from dataclasses import asdict
from typing import Any

import click

from deploy.cli.help_groups import GroupedCommand
from deploy.system.counts import with_noun
from deploy.system.terminal import say
from retrain.cli.options import SOURCE_GROUPS, json_option, progress, source, source_options


@click.command(cls=GroupedCommand, groups=SOURCE_GROUPS)
@source_options
@json_option
def bottlenecks(as_json: bool, **where: Any) -> None:
    """Compute the bottleneck of each photo in DIR, and keep it in the cache.

    `retrain train` does this too; it takes from the cache what is there.
    """
    from retrain.data.photo import shown
    from retrain.settings.training import SplitSettings
    from retrain.training.load_examples import (
        analyse,
        print_left_out,
        read_source,
        with_precision,
    )

    stages, photos = progress(), source(**where)
    dataset, backbone = read_source(photos, stages)
    backbone = with_precision(photos, dataset, backbone, SplitSettings(), stages)
    dataset, result = analyse(photos, dataset, backbone, stages)
    print_left_out(dataset, stages)
    if as_json:
        record = {
            "schema": 1,
            "photos": len(dataset.photos),
            "analysed": result.analysed,
            "bad": [{"path": shown(bad.path), "reason": bad.reason} for bad in dataset.bad],
            "input": asdict(backbone.spec),
            "graph": str(backbone.graph_path),
            "fingerprint": backbone.fingerprint,
            "extract_precision": backbone.precision,
            "seconds": stages.seconds,
        }
        say(json.dumps(record))
    else:
        say(f"{with_noun(len(dataset.photos), 'photo')} ready; {result.analysed:,} analysed now")
