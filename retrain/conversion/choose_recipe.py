"""Try every recipe, and choose the smallest or fastest model within the bounds of the gate."""

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy import files, model_file
from deploy.errors import BadData
from deploy.image import normalise
from deploy.runtime import Model, find_runtime
from deploy.system.machine import NO_FAST_INT8, cpu_name, lacks_fast_int8
from deploy.system.terminal import align
from retrain.conversion.build_model import (
    ConvertedModel,
    ScoredModel,
    convert_graph,
    load_reference,
    score_model,
)
from retrain.conversion.inputs import ConversionInputs
from retrain.progress import Progress
from retrain.run_folder import RunFolder
from retrain.settings.conversion import RECIPES, Choice, ConvertSettings

_ROUNDS, _RUNS_PER_ROUND = 10, 10
"""All models run in each round, so that a drift of the machine's speed affects all alike."""
_MAX_ROUND_S = 1.0
"""Seconds for one model in one round: with int16x8 a photo may take seconds."""


@dataclass(frozen=True)
class RecipeFigures:
    """What was measured of one recipe's model.

    Accuracy, its 95% interval, and agreement are of 0..1; `bytes` is the size of the file; `p50_ms`
    the median time of a photo. `reasons` says why the model is refused. `best` means that no other
    model is at least as accurate, small and fast, and better in one of these.
    """

    recipe: str
    accuracy: float
    interval95: tuple[float, float]
    agreement: float
    bytes: int
    p50_ms: float
    reasons: tuple[str, ...]
    best: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class RecipeComparison:
    """The figures of every recipe that was tried, and where they were measured.

    `failed` gives the reason for each recipe that made no model.
    """

    candidates: tuple[RecipeFigures, ...]
    failed: Mapping[str, str]
    runtime: str
    cpu: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "candidates": [figures.to_json() for figures in self.candidates],
            "failed": dict(self.failed),
            "runtime": self.runtime,
            "cpu": self.cpu,
        }


def choose(
    run: RunFolder,
    inputs: ConversionInputs,
    choice: Choice,
    settings: ConvertSettings,
    progress: Progress,
) -> tuple[ScoredModel, RecipeComparison]:
    """Return the chosen model, and the figures of all recipes.

    Settings that a recipe does not have, such as `keep_float`, do not apply to it. Each model is
    written to the run's folder `recipes`, refused ones to `recipes/rejected`. If all are refused,
    the one nearest to the graph is returned. Raises BadData if no recipe makes a model.
    """
    converted, failed = _convert_all(inputs, settings, progress)
    if not converted:
        raise BadData("no recipe makes a model of this graph: see the warnings above")
    reference = load_reference(inputs, progress)
    models = [score_model(inputs, model, reference, settings, progress) for model in converted]
    with progress.stage("time"):
        p50_ms = _measure_p50_ms(models, inputs)
    figures = mark_best(
        RecipeFigures(
            model.quantization.recipe,
            model.parity.model.value,
            model.parity.model.interval,
            model.parity.agreement,
            len(model.content),
            p50_ms[model.quantization.recipe],
            tuple(model.parity.violations(settings.bounds)),
        )
        for model in models
    )
    # Written together at the end: an interrupted choice leaves no models.
    for row, model in zip(figures, models, strict=True):
        files.write(run.recipe(row.recipe, bool(row.reasons)), model.content)
    chosen = _choose_model(figures, models, choice)
    runtime = find_runtime()
    comparison = RecipeComparison(
        tuple(figures), failed, f"{runtime.name} {runtime.version}", cpu_name()
    )
    _report(comparison, chosen.quantization.recipe, progress)
    return chosen, comparison


def _convert_all(
    inputs: ConversionInputs, settings: ConvertSettings, progress: Progress
) -> tuple[list[ConvertedModel], dict[str, str]]:
    """Return the models of all recipes, and the reason for each recipe that made none."""
    converted, failed = [], {}
    for recipe in RECIPES.values():
        if not recipe.tried_by_choose:
            continue
        quantization = settings.quantization.with_recipe(recipe)
        try:
            converted.append(convert_graph(inputs, quantization, settings, progress))
        except BadData as error:
            progress.warn(str(error))
            failed[recipe.name] = str(error)
    return converted, failed


def _choose_model(
    figures: Sequence[RecipeFigures], models: Sequence[ScoredModel], choice: Choice
) -> ScoredModel:
    within_bounds = [i for i, row in enumerate(figures) if not row.reasons]
    if not within_bounds:
        return max(
            models, key=lambda model: (model.parity.agreement, -model.parity.mean_difference)
        )
    if choice == "smallest":
        return models[min(within_bounds, key=lambda i: figures[i].bytes)]
    return models[min(within_bounds, key=lambda i: figures[i].p50_ms)]


def mark_best(figures: Iterable[RecipeFigures]) -> list[RecipeFigures]:
    """Return the figures with `best` set for those on the Pareto front."""
    rows = list(figures)

    def qualities(row: RecipeFigures) -> tuple[float, ...]:
        return row.accuracy, -row.bytes, -row.p50_ms

    def is_beaten(row: RecipeFigures) -> bool:
        return any(
            qualities(rival) != qualities(row)
            and all(a >= b for a, b in zip(qualities(rival), qualities(row), strict=True))
            for rival in rows
        )

    return [replace(row, best=not is_beaten(row)) for row in rows]


def _measure_p50_ms(models: Sequence[ScoredModel], inputs: ConversionInputs) -> dict[str, float]:
    """Return the median time of one photo through each recipe's model, in ms, on one thread."""
    pixels = inputs.calibration[:1]
    tensor = normalise(pixels, inputs.graph.spec)
    runtimes = {
        model.quantization.recipe: Model(model_file.unpack(model.content).flatbuffer)
        for model in models
    }
    samples_ms: dict[str, list[float]] = {recipe: [] for recipe in runtimes}
    for round_number in range(_ROUNDS + 1):
        for recipe, runtime in runtimes.items():
            photo: npt.NDArray[Any] = pixels if runtime.input_dtype == np.uint8 else tensor
            end = time.perf_counter() + _MAX_ROUND_S
            for _ in range(_RUNS_PER_ROUND):
                start = time.perf_counter_ns()
                runtime(photo)
                if round_number:  # the first round warms up
                    samples_ms[recipe].append((time.perf_counter_ns() - start) / 1e6)
                if time.perf_counter() > end:
                    break
    return {recipe: median(samples) for recipe, samples in samples_ms.items()}


def _report(comparison: RecipeComparison, chosen: str, progress: Progress) -> None:
    """Print the table of recipes, and why models were refused or slow."""
    progress.info(f"on {comparison.cpu}, one thread, {comparison.runtime}:")
    for line in _table(comparison.candidates, chosen):
        progress.info(line)
    if all(row.reasons for row in comparison.candidates):
        progress.warn("no recipe is near enough to the graph")
        for row in comparison.candidates:
            progress.info(f"  {row.recipe}: {'; '.join(row.reasons)}")
    for line in explain_slow_int8({row.recipe: row.p50_ms for row in comparison.candidates}):
        progress.info(line)


def _table(figures: Sequence[RecipeFigures], chosen: str) -> list[str]:
    rows = [("recipe", "accuracy", "95% interval", "agreement", "MB", "p50 ms", "", "")]
    for row in figures:
        low, high = row.interval95
        remark = "refused" if row.reasons else "chosen" if row.recipe == chosen else ""
        rows.append(
            (
                row.recipe,
                f"{row.accuracy:.1%}",
                f"{low:.1%} to {high:.1%}",
                f"{row.agreement:.1%}",
                f"{row.bytes / 1e6:.2f}",
                f"{row.p50_ms:.2f}",
                "*" if row.best else "",
                remark,
            )
        )
    return [*align(rows, (0, 2, 6, 7)), "* no other is as accurate, as small and as fast"]


def explain_slow_int8(p50_ms: Mapping[str, float]) -> list[str]:
    """Return a line for each int8 recipe that is slower here than the float32 recipe."""
    plain = [RECIPES[name] for name in p50_ms if RECIPES[name].weights == "float32"]
    lines = []
    for name in p50_ms:
        ratio = max((p50_ms[name] / p50_ms[recipe.name] for recipe in plain), default=0)
        if RECIPES[name].activations == "int8" and ratio > 1:
            why = (
                NO_FAST_INT8
                if lacks_fast_int8(find_runtime().name, platform.machine())
                else "this CPU or runtime computes float32 faster than int8: "
                "measure on the device itself"
            )
            lines.append(f"{name} takes {ratio:.1f} times the time of {plain[0].name} here: {why}")
    return lines
