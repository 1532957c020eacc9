"""`retrain backbones`: the networks that a final layer can be trained on."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retrain.cli.options import FOLDER, json_option

if TYPE_CHECKING:
    from retrain.backbones.network import Network

_INCEPTION_2015 = "http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz"


@click.command()
@click.option("--cache-dir", type=FOLDER, help="Instead of the user's cache folder.")
@json_option
def backbones(cache_dir: Path | None, as_json: bool) -> None:
    """List the backbones: input, size, cost, accuracy, and where their weights are."""
    from retrain.backbones import NETWORKS
    from retrain.config import default_cache_dir

    rows = [_row(network, cache_dir or default_cache_dir()) for network in NETWORKS.values()]
    if as_json:
        click.echo(json.dumps({"schema": 1, "backbones": rows}))
        return
    form = "{:<20}{:>6}{:>7}{:>12}{:>14}{:>8}  {:<9}{}"
    head = ("", "input", "width", "parameters", "multiply-adds", "top-1", "weights", "from")
    click.echo(form.format(*head))
    for row in rows:
        sizes = [
            "?" if row[name] is None else f"{row[name] / 1e6:,.1f} M"
            for name in ("parameters", "multiply_adds")
        ]
        ends = (row["input"]["width"], row["width"])
        where = ("here" if row["weights"]["path"] else "-", row["weights"]["source"])
        click.echo(form.format(row["name"], *ends, *sizes, f"{row['top1']:.1%}", *where))
    click.echo(f"Inception of 2015: fetch {_INCEPTION_2015}, and pass it with --graph")
    click.echo("top-1: of the whole network on ImageNet, as published:")
    for source in dict.fromkeys(row["top1_source"] for row in rows):
        click.echo(f"  {source}")


def _row(network: "Network", cache_dir: Path) -> dict[str, Any]:
    """Return what there is to say of `network`; its cost is None where TensorFlow is missing."""
    from retrain.backbones.cost import cost

    try:
        tell = partial(click.echo, err=True)
        counted: dict[str, Any] = asdict(cost(network, cache_dir, tell))
    except ModuleNotFoundError:
        counted = {"parameters": None, "multiply_adds": None}
    path = network.installed()
    return {
        "name": network.name,
        "input": asdict(network.spec),
        "width": network.width,
        **counted,
        "top1": network.top1,
        "top1_source": network.top1_source,
        "weights": {"source": network.weights_source, "path": path and str(path)},
    }
