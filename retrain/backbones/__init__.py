"""Register the networks whose bottlenecks a final layer can be trained on, and load one."""

from functools import partial
from pathlib import Path
from typing import Any

from retrain.backbones import efficientnet_lite, keras_applications
from retrain.backbones.backbone import Backbone as Backbone
from retrain.backbones.backbone import prepare, weights_digest
from retrain.backbones.network import Network
from retrain.backbones.round_kernels import round_kernels

NETWORKS: dict[str, Network] = {
    network.name: network for network in (*efficientnet_lite.NETWORKS, *keras_applications.NETWORKS)
}
NAMES = tuple(NETWORKS)


def load(name: str, cache_dir: Path, weights: Path | None = None) -> Backbone:
    """Return the backbone `name`, prepared under `cache_dir` unless it is there already.

    Its weights are those of the file `weights`, or ImageNet's, downloaded if no package has them.
    Raises BadData for a file that does not hold them.
    """
    network = NETWORKS[name]
    path = weights or network.fetch_weights()
    sha256 = weights_digest(network.read_weights(path))
    trace = partial(_rounded_graph, network, path)
    sides = (network.spec.height, network.spec.width)
    graph_path, flatbuffer = prepare(name, sha256, trace, sides, cache_dir)
    return Backbone(
        name,
        network.spec,
        network.width,
        sha256,
        graph_path,
        flatbuffer,
    )


def _rounded_graph(network: Network, weights: Path) -> Any:
    return round_kernels(network.graph_def(weights))
