"""`retrain backbones`: list the networks that a final layer can be trained on."""

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.errors import WrongUse
from deploy.system.terminal import align, printable, say
from retrain.cli.options import (
    FILE,
    OWN_NETWORK_GROUP,
    cache_dir_option,
    json_option,
    own_network_options,
)

if TYPE_CHECKING:
    from retrain.backbones.cut_points import CutPoint
    from retrain.backbones.network import Network

_GROUPS: Groups = {
    "The graph of a backbone": ("--architecture", "--output-graph", "--weights"),
    "Cuts": ("--cuts",),
    **OWN_NETWORK_GROUP,
    "General": ("--cache-dir", *GENERAL["General"]),
}

_INCEPTION_2015 = "http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz"


@click.command(cls=GroupedCommand, groups=_GROUPS)
@click.option("--architecture", help="Name of the backbone that --output-graph writes.")
@click.option(
    "--output-graph", type=FILE, help="Write the frozen graph of --architecture to this file."
)
@click.option(
    "--weights", type=FILE, help="Use the weights in this file instead of the published ones."
)
@click.option(
    "--cuts",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="List the tensors at which the backbone NAME can be cut for fine-tuning. Without NAME it "
    "is the default backbone, or the network in --graph.",
)
@own_network_options
@cache_dir_option
@json_option
def backbones(
    architecture: str | None,
    output_graph: Path | None,
    weights: Path | None,
    cuts: str | None,
    graph: Path | None,
    cache_dir: Path | None,
    as_json: bool,
    **ends: Any,
) -> None:
    """List the available backbones: input, size, cost, accuracy, and where their weights are.

    With --architecture and --output-graph, write the frozen graph of one backbone instead, as it
    was published, from the photo to the bottleneck. With --cuts, list the tensors of one backbone
    through which all paths go: what lies above such a cut can be trained. No weights are needed.
    """
    from retrain.backbones import NETWORKS
    from retrain.settings.cache import default_cache_dir

    cache = cache_dir or default_cache_dir()
    described = any(value is not None for value in ends.values())
    if (graph and cuts is None) or (described and not graph):
        raise WrongUse("options of a network of your own are for its cuts: --cuts --graph FILE")
    if architecture or output_graph or weights:
        if cuts is not None:
            raise WrongUse("--cuts stands alone: --cuts NAME")
        if not (architecture and output_graph):
            raise WrongUse("a graph needs both: --architecture NAME --output-graph FILE")
        _write(_network(architecture), output_graph, weights, as_json)
        return
    if cuts is not None:
        _list_cuts(cuts, graph, ends, cache, as_json)
        return
    rows = [_row(network, cache) for network in NETWORKS.values()]
    if as_json:
        say(json.dumps({"schema": 1, "backbones": rows}))
        return
    table = [["", "input", "width", "parameters", "multiply-adds", "top-1", "weights", "from"]]
    for row in rows:
        sizes = [
            "?" if row[name] is None else f"{row[name] / 1e6:,.1f} M"
            for name in ("parameters", "multiply_adds")
        ]
        widths = (str(row["input"]["width"]), str(row["width"]))
        where = ("here" if row["weights"]["path"] else "-", row["weights"]["source"])
        table.append([row["name"], *widths, *sizes, f"{row['top1']:.1%}", *where])
    say(*align(table, (0, 6, 7)))
    say(f"Inception of 2015: fetch {_INCEPTION_2015}, and pass it with --graph")
    say("top-1: of the whole network on ImageNet, as published:")
    for source in dict.fromkeys(row["top1_source"] for row in rows):
        say(f"  {source}")


def _network(name: str) -> "Network":
    from retrain.backbones import NETWORKS

    if name not in NETWORKS:
        raise WrongUse(f"no backbone {name}: there is {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _list_cuts(
    name: str, graph: Path | None, ends: dict[str, Any], cache_dir: Path, as_json: bool
) -> None:
    """Print the cut points of the backbone `name`, or of the network in the file `graph`."""
    from retrain.backbones.cut_points import choose_cut_point, find_cut_points
    from retrain.settings.source import DEFAULT_ARCHITECTURE

    if graph:
        if name:
            raise WrongUse("--graph replaces the name after --cuts: --cuts --graph FILE")
        title, definition = printable(graph.name), _own_graph(graph, ends, cache_dir)
    else:
        title = name or DEFAULT_ARCHITECTURE
        definition = _network(title).graph_def(None)
    points = find_cut_points(definition)
    default = choose_cut_point(points, None)
    if as_json:
        rows = [_cut_row(point, point == default) for point in points]
        say(json.dumps({"schema": 1, "network": title, "cuts": rows}))
        return
    table = [["cut", "map", "a view", "trained multiply-adds", "", ""]]
    for point in points:
        table.append(
            [
                point.name,
                "x".join(map(str, point.shape)),
                f"{point.kilobytes:,.1f} kB",
                f"{point.multiply_adds_above / 1e6:,.1f} M",
                f"{point.share_above:.1%}",
                "default" if point == default else "",
            ]
        )
    say(*align(table, (0, 5)))


def _own_graph(path: Path, ends: dict[str, Any], cache_dir: Path) -> Any:
    from retrain import tf_graph
    from retrain.backbones.custom.custom_network import Ends
    from retrain.backbones.custom.load import load_custom

    return tf_graph.read(load_custom(path, Ends(**ends), cache_dir).graph_path)


def _cut_row(point: "CutPoint", is_default: bool) -> dict[str, Any]:
    return {
        "name": point.name,
        "shape": point.shape,
        "kilobytes": point.kilobytes,
        "multiply_adds_above": point.multiply_adds_above,
        "share_above": point.share_above,
        "default": is_default,
    }


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
