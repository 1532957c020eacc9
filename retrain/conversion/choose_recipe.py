"""Try each recipe, and take the smallest or fastest model that is near enough to the graph."""

import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy import files, model_file
from deploy.errors import BadData
from deploy.image import normalise
from deploy.runtime import Model, find_runtime
from deploy.system.machine import NO_FAST_INT8, cpu_name, lacks_fast_int8
from retrain.conversion.build_model import Candidate, converted, scored
from retrain.conversion.inputs import Material
from retrain.run_folder import RunFolder
from retrain.settings.conversion import (
    DEFAULT_OUTPUT_TYPE,
    RECIPES,
    ConvertSettings,
    Quantization,
    Recipe,
)

_ROUNDS, _RUNS = 10, 10
"""Each model in turn, so that a machine whose speed drifts drifts for all."""
_SECONDS = 1.0
"""A turn's limit: with int16x8 a photo may take seconds."""


class Row(NamedTuple):
    """A recipe's model: accuracy with its 95% interval and agreement of 0..1, bytes, p50 in ms.

    `best` tells that no other is both smaller, faster and as accurate; `reasons` why it may not
    be taken.
    """

    recipe: str
    accuracy: float
    interval95: tuple[float, float]
    agreement: float
    bytes: int
    p50_ms: float
    reasons: list[str]
    best: bool = False


def _settings(quantization: Quantization, recipe: Recipe) -> Quantization:
    """Return `quantization` for another recipe, without the settings that the recipe lacks."""
    output_type = quantization.output_type
    return replace(
        quantization,
        recipe=recipe.name,
        output_type=output_type if output_type in recipe.output_types else DEFAULT_OUTPUT_TYPE,
        keep_float=quantization.keep_float if recipe.mixed_precision else (),
    )


def choose(run: RunFolder, material: Material) -> tuple[Quantization, Candidate, dict[str, Any]]:
    """Return the recipe chosen, its model, and the table of all as JSON values.

    `keep_float` and `output_type` are for int8 alone. Each model is kept in the run's folder
    `recipes`, what is beyond the bounds in `rejected` there. Where all are, the one nearest to the
    graph is returned. Raises BadData if none could be made.
    """
    config, progress = material.config, material.progress
    made: dict[str, Candidate] = {}
    failed: dict[str, str] = {}
    hows = {
        name: _settings(config.quantization, recipe)
        for name, recipe in RECIPES.items()
        if recipe.tried
    }
    for name, how in hows.items():
        try:
            model = converted(material, how)
        except BadData as error:
            progress.warn(str(error))
            failed[name] = str(error)
            continue
        made[name] = scored(material, model)
    if not made:
        raise BadData("no recipe makes a model of this graph: see the warnings above")
    with progress.stage("time"):
        paces = _p50_ms({name: each.packed for name, each in made.items()}, material)
    rows = _best(
        [
            Row(
                name,
                each.parity.model.value,
                each.parity.model.interval,
                each.parity.agreement,
                len(each.packed),
                paces[name],
                each.parity.beyond(config.bounds),
            )
            for name, each in made.items()
        ]
    )
    for row in rows:  # all or none: an interrupted choice is no choice
        files.write(run.recipe(row.recipe, bool(row.reasons)), made[row.recipe].packed)
    chosen = _chosen(rows, made, config)
    runtime = find_runtime()
    progress.info(f"on {cpu_name()}, one thread, {runtime.name} {runtime.version}:")
    for line in _table(rows, chosen):
        progress.info(line)
    if chosen.reasons:
        progress.warn("no recipe is near enough to the graph")
        for row in rows:
            progress.info(f"  {row.recipe}: {'; '.join(row.reasons)}")
    for line in _slow_int8(paces):
        progress.info(line)
    table = {
        "candidates": [row._asdict() for row in rows],
        "failed": failed,
        "runtime": f"{runtime.name} {runtime.version}",
        "cpu": cpu_name(),
    }
    return hows[chosen.recipe], made[chosen.recipe], table


def _chosen(rows: list[Row], made: Mapping[str, Candidate], config: ConvertSettings) -> Row:
    good = [row for row in rows if not row.reasons]
    if not good:
        return max(rows, key=lambda row: (row.agreement, -made[row.recipe].parity.mean_difference))
    if config.choose == "smallest":
        return min(good, key=lambda row: row.bytes)
    return min(good, key=lambda row: row.p50_ms)


def _best(rows: list[Row]) -> list[Row]:
    """Mark the rows of the Pareto front."""

    def values(row: Row) -> tuple[float, ...]:
        return row.accuracy, -row.bytes, -row.p50_ms

    def beaten(row: Row) -> bool:
        return any(
            values(other) != values(row)
            and all(a >= b for a, b in zip(values(other), values(row), strict=True))
            for other in rows
        )

    return [row._replace(best=not beaten(row)) for row in rows]


def _p50_ms(packed: Mapping[str, bytes], material: Material) -> dict[str, float]:
    """Return the median time of one photo through each model, in ms, on one thread."""
    pixels = material.calibration[:1]
    tensor = normalise(pixels, material.contract.input)
    models = {name: Model(model_file.unpack(each).flatbuffer) for name, each in packed.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(_ROUNDS + 1):
        for name, model in models.items():
            given: npt.NDArray[Any] = pixels if model.input_dtype == np.uint8 else tensor
            end = time.perf_counter() + _SECONDS
            for _ in range(_RUNS):
                start = time.perf_counter_ns()
                model(given)
                if turn:  # the first warms up
                    taken[name].append((time.perf_counter_ns() - start) / 1e6)
                if time.perf_counter() > end:
                    break
    return {name: median(each) for name, each in taken.items()}


def _table(rows: list[Row], chosen: Row) -> list[str]:
    lines = ["recipe     accuracy  95% interval     agreement     MB  p50 ms"]
    for row in rows:
        low, high = row.interval95
        remark = "refused" if row.reasons else "chosen" if row == chosen else ""
        lines.append(
            f"{row.recipe:<10}{row.accuracy:>9.1%}  {f'{low:.1%} to {high:.1%}':<16}"
            f"{row.agreement:>10.1%}{row.bytes / 1e6:>7.2f}{row.p50_ms:>8.2f}"
            f"  {'*' if row.best else ' '} {remark}".rstrip()
        )
    return [*lines, "* none is as accurate, as small and as fast"]


def _slow_int8(paces: Mapping[str, float]) -> list[str]:
    """Return why int8 is slower than float32 here, if it is."""
    if not paces.get("int8", 0) > paces.get("float32", float("inf")):
        return []
    why = (
        NO_FAST_INT8
        if lacks_fast_int8(find_runtime().name, platform.machine())
        else "this CPU or runtime computes float32 faster than int8: measure on the device itself"
    )
    ratio = paces["int8"] / paces["float32"]
    return [f"int8 takes {ratio:.1f} times the time of float32 here: {why}"]
