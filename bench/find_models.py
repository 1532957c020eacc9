"""Find the models to compare: those of a run folder, or those that the user names."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from deploy import model_file, versioned_json
from deploy.errors import BadData, WrongUse
from deploy.run_command import run_command
from deploy.untrusted_files import read_json

GRAPH, MODEL = "output_graph.pb", "model.tflite"
_CONVERSION_VERSION = 1
"""The version of conversion.json that this module reads."""
FROZEN_GRAPH_LOADER = "bench.load_tensorflow:load_frozen_graph"


class Score(NamedTuple):
    """An accuracy on the test photos, and its 95% interval, from 0 to 1."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class TimedModel:
    """A model that can be timed on one of `runtimes`.

    `load` names the function that loads it, "module:name", with `arguments`; `score` is None if
    nobody measured it.
    """

    name: str
    sha256: str
    size_bytes: int
    load: str
    runtimes: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    score: Score | None = None


@dataclass(frozen=True)
class GraphInput:
    """Names of input and output, and an image's side in pixels, which a graph may not contain."""

    input_tensor: str | None = None
    output_tensor: str | None = None
    size: int | None = None


def models_of_run(folder: Path) -> list[TimedModel]:
    """Return the graph and the models of the run `folder`; only model.tflite on a device.

    A recipe with the same bytes as model.tflite is left out. Raises BadData.
    """
    graph, model = folder / GRAPH, folder / MODEL
    if not graph.is_file() and not model.is_file():
        command = run_command(folder, "train", "DIR")
        raise BadData(f"{graph}: no such file: run `{command}` first, or name a MODEL")
    if not model.is_file():
        command = run_command(folder, "convert")
        raise BadData(f"{model}: no such file: run `{command}` first, or name a MODEL")
    paths = [graph] if graph.is_file() else []
    models = [open_model(path, str(path.relative_to(folder))) for path in [*paths, model]]
    for path in sorted((folder / "recipes").glob("*.tflite")):
        recipe = open_model(path, path.relative_to(folder).as_posix())
        if recipe.sha256 not in {file.sha256 for file in models}:
            models.append(recipe)
    return models


def models_at(paths: Sequence[Path], graph_input: GraphInput) -> list[TimedModel]:
    """Return the models at `paths`, with the shortest names that differ.

    Raises BadData, and WrongUse for a field of `graph_input` that no model takes.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    models = [open_model(path, name, graph_input) for path, name in zip(paths, names, strict=True)]
    arguments = {name for model in models for name in model.arguments}
    for setting, value, argument, forms in (
        ("input_tensor", graph_input.input_tensor, "ends", "a frozen graph (.pb)"),
        ("output_tensor", graph_input.output_tensor, "ends", "a frozen graph (.pb)"),
        ("input_size", graph_input.size, "size", "a frozen graph (.pb) or a SavedModel"),
    ):
        if value is not None and argument not in arguments:
            raise WrongUse(f"`{setting}` is for {forms}, and no MODEL is one: leave it out")
    return models


def open_model(path: Path, name: str, graph_input: GraphInput = GraphInput()) -> TimedModel:
    """Return the model at `path`; raise BadData unless it has a form that can be timed."""
    arguments: dict[str, Any] = {"path": str(path.resolve())}
    runtimes: tuple[str, ...]
    if (path / "saved_model.pb").is_file():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        arguments["size"] = graph_input.size
        load, runtimes = "bench.load_tensorflow:load_saved_model", ("TensorFlow",)
    elif path.is_file() and path.suffix == ".tflite":
        files = [path]
        load, runtimes = "bench.load_tflite:load_tflite", ("LiteRT", "tflite-runtime")
    elif path.is_file() and path.suffix == ".pb":
        files = [path]
        arguments["ends"] = [graph_input.input_tensor, graph_input.output_tensor]
        arguments["size"] = graph_input.size
        load, runtimes = FROZEN_GRAPH_LOADER, ("TensorFlow",)
    else:
        raise BadData(f"{path}: not there, or not a .pb or .tflite file or a SavedModel folder")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    size = sum(file.stat().st_size for file in files)
    sha256 = digest.hexdigest()
    return TimedModel(name, sha256, size, load, runtimes, arguments, _score(path, sha256, size))


def _score(path: Path, sha256: str, size: int) -> Score | None:
    """Return the accuracy in conversion.json of a file of a run folder.

    None unless that is of this file: of its graph and size, and not refused after measuring.
    """
    in_recipes = path.parent.name == "recipes"
    conversion = (path.parent.parent if in_recipes else path.parent) / "conversion.json"
    try:
        record = versioned_json.read(
            read_json(conversion), str(conversion), _CONVERSION_VERSION, ""
        )
        if in_recipes:
            rows = {row.text("recipe"): row for row in record.objects("candidates")}
            figures = rows[path.stem]
            measured_size = figures.integer("bytes")
        else:
            section = {GRAPH: "graph", MODEL: "model"}[path.name]
            figures, measured_size = record.object(section), record.object("bytes").integer(section)
            if section == "model" and not (
                record.boolean("passed") and record.text("model_sha256", default=sha256) == sha256
            ):
                return None
        graph = sha256 if path.name == GRAPH else model_file.read(path).contract.graph_sha256
        if (graph, size) != (record.text("graph_sha256"), measured_size):
            return None
        low, high = figures.numbers("interval95")
        return Score(float(figures.number("accuracy")), float(low), float(high))
    except (OSError, ValueError, KeyError, BadData):
        return None
