"""A user's own network, read from its file as a frozen graph; nothing foreign in it is run."""

import tarfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.errors import BadData, WrongUse
from deploy.untrusted_files import naming
from retrain import tf_graph
from retrain.backbones.custom import keras_network, saved_model, tflite_to_graph
from retrain.backbones.custom.freeze_function import OwnNetwork
from retrain.backbones.custom.input_spec import Sides

MAX_BYTES = 2 << 30
"""The most that is read; a GraphDef cannot be larger either."""


def read(path: Path, bottleneck: str | None = None, size: Sides | None = None) -> OwnNetwork:
    """Return the network at `path`: a .pb, a .tgz with one in it, a SavedModel, .keras or .tflite.

    A .tflite file is read up to the tensor `bottleneck`, for photos of `size`. Raises
    BadData for a file that is damaged, too large, or that could run code.
    """
    files_of(path)
    if path.is_dir():
        return saved_model.read(path)
    if path.suffix == ".keras":
        return keras_network.read(path)
    if path.suffix in (".tgz", ".gz"):
        return OwnNetwork(_read_archive(path))
    if path.suffix == ".pb":
        return OwnNetwork(tf_graph.read(path))
    if path.suffix == ".tflite":
        return OwnNetwork(*tflite_to_graph.read(path, bottleneck, size))
    with suppress(BadData):  # a frozen graph under another name, such as graph.pb.bak
        return OwnNetwork(tf_graph.read(path))
    raise WrongUse(
        f"{path}: --graph takes a .pb, a .tgz with one, .keras, .tflite or SavedModel. Remedy: "
        "save the network as one of these, for example with model.save('network.keras')"
    )


def files_of(path: Path) -> list[Path]:
    """Return the file at `path`, or those in the folder; raise BadData if it is more than 2 GiB."""
    try:
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        total = sum(each.stat().st_size for each in found)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    if total > MAX_BYTES:
        raise BadData(f"{path}: {total} bytes; at most {MAX_BYTES} are read")
    return found


def _read_archive(path: Path) -> Any:
    try:
        with naming(path), tarfile.open(path) as archive:
            graphs = []
            for each in archive:
                if each.offset_data + each.size > MAX_BYTES:
                    raise BadData(f"more than {MAX_BYTES} bytes in it")
                if each.isreg() and each.name.endswith(".pb"):
                    graphs.append(each)
            if len(graphs) != 1:
                raise BadData(f"{len(graphs)} .pb files in it instead of one")
            stream = archive.extractfile(graphs[0])
            return tf_graph.parse(stream.read() if stream else b"")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise BadData(f"{path}: not an archive, or damaged ({error})") from error
