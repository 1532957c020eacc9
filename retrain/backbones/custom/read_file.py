"""Read a network of the user's own from its file as a frozen graph; run nothing that is in it."""

import gzip
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.errors import BadData, WrongUse
from deploy.untrusted_files import damaged, naming
from retrain import tf_graph
from retrain.backbones.custom import keras_network, saved_model, tflite_to_graph
from retrain.backbones.custom.custom_network import CustomNetwork
from retrain.backbones.surgery.photo_input import Sides
from retrain.tar_members import tar_members

MAX_NETWORK_BYTES = 2 << 30
"""A GraphDef cannot be larger either."""


def read_network(
    path: Path, bottleneck: str | None = None, input_size: Sides | None = None
) -> CustomNetwork:
    """Return the network at `path`: a .pb, a .tgz with one in it, a SavedModel, .keras or .tflite.

    A .tflite file is read up to the tensor `bottleneck`, for photos of `input_size`. Raises
    BadData for a file that is damaged, too large, or that could run code.
    """
    files_of(path)
    if path.is_dir():
        return saved_model.read(path)
    if path.suffix == ".keras":
        return keras_network.read(path)
    if path.suffix in (".tgz", ".gz"):
        return CustomNetwork(_read_archive(path))
    if path.suffix == ".pb":
        return CustomNetwork(tf_graph.read(path))
    if path.suffix == ".tflite":
        return tflite_to_graph.read(path, bottleneck, input_size)
    with suppress(BadData):  # a frozen graph under another name, such as graph.pb.bak
        return CustomNetwork(tf_graph.read(path))
    raise WrongUse(
        f"`graph` {path}: it must be a .pb, a .tgz with one, .keras, .tflite or SavedModel. "
        "Remedy: save the network as one of these, for example with model.save('network.keras')"
    )


def files_of(path: Path) -> list[Path]:
    """Return the file at `path`, or those in the folder; raise BadData if it is more than 2 GiB."""
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        total = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    if total > MAX_NETWORK_BYTES:
        raise BadData(f"{path}: {total} bytes; at most {MAX_NETWORK_BYTES} are read")
    return files


def _read_archive(path: Path) -> Any:
    """Return the GraphDef of the one .pb file in the .tgz file at `path`."""
    problem = "not an archive, or damaged"
    try:
        with naming(path), damaged(problem), gzip.open(path) as content:
            graphs = []
            for member in tar_members(content):
                if member.offset_data + member.size > MAX_NETWORK_BYTES:
                    raise BadData(f"more than {MAX_NETWORK_BYTES} bytes in it")
                if member.isreg() and not member.issparse() and member.name.endswith(".pb"):
                    graphs.append(member)
            if len(graphs) != 1:
                raise BadData(f"{len(graphs)} .pb files in it instead of one")
            content.seek(graphs[0].offset_data)
            return tf_graph.parse(content.read(graphs[0].size))
    except OSError as error:  # gzip's own are among them
        raise BadData(f"{path}: {problem} ({error})") from error
