"""`retrain backbones`: list the networks that a final layer can be trained on."""

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.errors import WrongUse
from deploy.system.terminal import align, say
from retrain.cli.options import FILE, cache_dir_option, json_option

if TYPE_CHECKING:
    from retrain.backbones.network import Network

_INCEPTION_2015 = "http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz"


@click.command()
@click.option("--architecture", help="Name of the backbone that --output-graph writes.")
@click.option(
    "--output-graph", type=FILE, help="Write the frozen graph of --architecture to this file."
)
@click.option(
    "--weights", type=FILE, help="Use the weights in this file instead of the published ones."
)
@cache_dir_option
@json_option
def backbones(
    architecture: str | None,
    output_graph: Path | None,
    weights: Path | None,
    cache_dir: Path | None,
    as_json: bool,
) -> None:
    """List the available backbones: input, size, cost, accuracy, and where their weights are.

    With --architecture and --output-graph, write the frozen graph of one backbone instead, as it
    was published, from the photo to the bottleneck.
    """
    from retrain.backbones import NETWORKS
    from retrain.settings.training import default_cache_dir

    if architecture or output_graph or weights:
        if not (architecture and output_graph):
            raise WrongUse("a graph needs both: --architecture NAME --output-graph FILE")
        if architecture not in NETWORKS:
            raise WrongUse(f"no backbone {architecture}: there is {', '.join(NETWORKS)}")
        _write(NETWORKS[architecture], output_graph, weights, as_json)
        return
    rows = [_row(network, cache_dir or default_cache_dir()) for network in NETWORKS.values()]
    if as_json:
        say(json.dumps({"schema": 1, "backbones": rows}))
        return
    table = [["", "input", "width", "parameters", "multiply-adds", "top-1", "weights", "from"]]
    for row in rows:
        sizes = [
            "?" if row[name] is None else f"{row[name] / 1e6:,.1f} M"
            for name in ("parameters", "multiply_adds")
        ]
        ends = (str(row["input"]["width"]), str(row["width"]))
        where = ("here" if row["weights"]["path"] else "-", row["weights"]["source"])
        table.append([row["name"], *ends, *sizes, f"{row['top1']:.1%}", *where])
    say(*align(table, (0, 6, 7)))
    say(f"Inception of 2015: fetch {_INCEPTION_2015}, and pass it with --graph")
    say("top-1: of the whole network on ImageNet, as published:")
    for source in dict.fromkeys(row["top1_source"] for row in rows):
        say(f"  {source}")


def _write(network: "Network", path: Path, weights: Path | None, as_json: bool) -> None:
    """Write the frozen graph of `network` as it was published, and print its shapes."""
    from deploy import files
    from retrain.tf_graph import BOTTLENECK, INPUT

    definition = network.graph_def(weights or network.fetch_weights())
    content = definition.SerializeToString(deterministic=True)
    files.write(path, content)
    if as_json:
        result = {
            "schema": 1,
            "path": str(path),
            "architecture": network.name,
            "graph_sha256": hashlib.sha256(content).hexdigest(),
        }
        say(json.dumps(result))
        return
    side = network.spec.height
    say(
        f"Written: {path}: {network.name}, {INPUT} (N, {side}, {side}, 3) to "
        f"{BOTTLENECK} (N, {network.width})"
    )


def _row(network: "Network", cache_dir: Path) -> dict[str, Any]:
    """Return the JSON values of `network`; its cost is None where TensorFlow is not installed."""
    from retrain.backbones.cost import cost

    try:
        costs: dict[str, Any] = asdict(cost(network, cache_dir, partial(say, err=True)))
    except ModuleNotFoundError:
        costs = {"parameters": None, "multiply_adds": None}
    path = network.installed_weights()
    return {
        "name": network.name,
        "input": asdict(network.spec),
        "width": network.width,
        **costs,
        "top1": network.top1,
        "top1_source": network.top1_source,
        "weights": {"source": network.weights_source, "path": path and str(path)},
    }
