"""What is compared: the files of a run folder, or those that were named."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from deploy import model_file
from deploy.errors import BadData
from deploy.untrusted_files import read_json

GRAPH, MODEL = "output_graph.pb", "model.tflite"


class Score(NamedTuple):
    """An accuracy on the test photos, and its 95% interval, of 0..1."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Subject:
    """A model: `load`, as "module:name", makes it ready from `arguments` on one of `runtimes`.

    `score` is None if nobody measured it.
    """

    name: str
    sha256: str
    size_bytes: int
    load: str
    runtimes: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    score: Score | None = None


@dataclass(frozen=True)
class Foreign:
    """What a graph of others may not tell: its input's and output's nodes, an image's side."""

    input_tensor: str | None = None
    output_tensor: str | None = None
    size: int | None = None


def of_run(folder: Path) -> list[Subject]:
    """Return the graph and the models of the run `folder`; model.tflite alone on a device.

    A recipe with the bytes of model.tflite is left out. Raises BadData.
    """
    graph, model = folder / GRAPH, folder / MODEL
    if not graph.is_file() and not model.is_file():
        raise BadData(f"{graph}: no such file: run `retrain train` first, or name a MODEL")
    if not model.is_file():
        raise BadData(f"{model}: no such file: run `retrain convert` first, or name a MODEL")
    paths = [graph] if graph.is_file() else []
    found = [subject(path, str(path.relative_to(folder))) for path in [*paths, model]]
    for path in sorted((folder / "recipes").glob("*.tflite")):
        recipe = subject(path, path.relative_to(folder).as_posix())
        if recipe.sha256 not in {each.sha256 for each in found}:
            found.append(recipe)
    return found


def named(models: Sequence[Path], foreign: Foreign) -> list[Subject]:
    """Return the models at these paths, by the shortest names that differ; raise BadData."""
    names = [path.name for path in models]
    if len(set(names)) < len(names):
        names = [str(path) for path in models]
    return [subject(path, name, foreign) for path, name in zip(models, names, strict=True)]


def subject(path: Path, name: str, foreign: Foreign = Foreign()) -> Subject:
    """Return what `path` holds, by its form; raise BadData if it is none that can be timed."""
    arguments: dict[str, Any] = {"path": str(path.resolve())}
    runtimes: tuple[str, ...]
    if (path / "saved_model.pb").is_file():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        arguments["size"] = foreign.size
        load, runtimes = "bench.load_tensorflow:saved_model", ("TensorFlow",)
    elif path.is_file() and path.suffix == ".tflite":
        files = [path]
        load, runtimes = "bench.load_tflite:tflite", ("LiteRT", "tflite-runtime")
    elif path.is_file() and path.suffix == ".pb":
        files = [path]
        arguments["ends"] = [foreign.input_tensor, foreign.output_tensor]
        arguments["size"] = foreign.size
        load, runtimes = "bench.load_tensorflow:frozen_graph", ("TensorFlow",)
    else:
        raise BadData(f"{path}: not there, or not a .pb or .tflite file or a SavedModel folder")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    size = sum(file.stat().st_size for file in files)
    sha256 = digest.hexdigest()
    return Subject(name, sha256, size, load, runtimes, arguments, _score(path, sha256, size))


def _score(path: Path, sha256: str, size: int) -> Score | None:
    """Return what `retrain convert` measured of a file of its run folder.

    None where that was another file: of another graph or size, or refused after it was measured.
    """
    in_recipes = path.parent.name == "recipes"
    conversion = (path.parent.parent if in_recipes else path.parent) / "conversion.json"
    try:
        found = read_json(conversion)
        if in_recipes:
            row = {each["recipe"]: each for each in found["candidates"]}[path.stem]
            measured = row["bytes"]
        else:
            part = {GRAPH: "graph", MODEL: "model"}[path.name]
            row, measured = found[part], found["bytes"][part]
            if part == "model" and not (
                found["passed"] and found.get("model_sha256", sha256) == sha256
            ):
                return None
        graph = sha256 if path.name == GRAPH else model_file.read(path).contract.graph_sha256
        if (graph, size) != (found["graph_sha256"], measured):
            return None
        low, high = row["interval95"]
        return Score(float(row["accuracy"]), float(low), float(high))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, BadData):
        return None
