"""Measure what each recipe costs and gains: `python -m bench.experiments.recipes DIR...`.

For each folder of photos and each network: test accuracy over several splits, agreement with the
graph, size, and time on this CPU with the runtime of this Python and, if named, of another. The
product's own commands do the work.
"""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.experiments.shared import (
    NO_BOUNDS,
    folders_argument,
    json_option,
    options_by_name,
    recipes_option,
    retrain,
    run,
    save,
)
from bench.stats import milliseconds
from bench.worker_process import TIMEOUT_S, call, packages
from deploy.errors import RetrainError
from deploy.system.terminal import say_table

NETWORKS = {"Lite0": "", "Lite2": "--architecture efficientnet_lite2"}
RECIPES = {
    **{
        name: f"--quantize {name}"
        for name in ("int8", "int8-edgetpu", "dynamic", "float16", "float32", "int16x8")
    },
    "dynamic, 2.14": "--quantize dynamic --target tflite-runtime==2.14",
}
ROUNDS = 3

Row = dict[str, Any]


@click.command()
@folders_argument
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME=OPTIONS",
    help="May be given several times.",
)
@recipes_option
@click.option("--salts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--runs", default=20, show_default=True, type=click.IntRange(1))
@click.option("--runtime-python", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@json_option
def main(
    folders: tuple[Path, ...],
    networks: tuple[str, ...],
    recipes: tuple[str, ...],
    salts: int,
    runs: int,
    runtime_python: Path | None,
    output: Path | None,
) -> None:
    """Measure every recipe on each DIR with each network, on splits of salt 1 to SALTS.

    A network is a name and options of `retrain train`, a recipe a name and options of `retrain
    convert`. RUNTIME_PYTHON needs click, numpy, Pillow and a TFLite runtime. Times are RUNS times 3
    calls from array to array, one thread, of the first salt's models.
    """
    pythons = [Path(sys.executable), *([runtime_python.absolute()] if runtime_python else [])]
    by_network = options_by_name(networks) or NETWORKS
    by_recipe = options_by_name(recipes) or RECIPES
    measured: list[Row] = []
    for folder in folders:
        for network, options in by_network.items():
            rows = measure(folder, shlex.split(options), by_recipe, salts, runs, pythons)
            measured.append({"photos": folder.name, "network": network, "train": options, **rows})
            if output:  # after each network: all of them take hours
                save(output, {"runs": runs * ROUNDS, "recipes": by_recipe, "measured": measured})
            say_table(table(measured[-1]) + "\n")


def measure(
    folder: Path,
    options: list[str],
    recipes: Mapping[str, str],
    salts: int,
    runs: int,
    pythons: list[Path],
) -> Row:
    """Return the figures of each recipe on the photos in `folder`; raise BadData."""
    scores: dict[str, list[Row]] = {name: [] for name in recipes}
    graphs: list[float] = []
    with TemporaryDirectory(prefix="retrain-") as temporary:
        models = {name: Path(temporary, f"{i}.tflite") for i, name in enumerate(recipes)}
        for salt in range(1, salts + 1):
            where = ("--output-dir", str(Path(temporary, str(salt))))
            metrics = retrain("train", str(folder), "--split-salt", str(salt), *where, *options)
            graphs.append(metrics["test"]["accuracy"])
            for name, quantize in recipes.items():
                result = retrain("convert", *where, *NO_BOUNDS, *shlex.split(quantize))
                scores[name].append(_score(result, salt))
                if salt == 1:
                    Path(where[1], "model.tflite").rename(models[name])
        times = time_models(list(models.values()), pythons, runs)
    return {
        "graph": float(np.mean(graphs)),
        "recipes": {
            name: {**_mean(scores[name]), "times": times_of_recipe}
            for name, times_of_recipe in zip(recipes, times, strict=True)
        },
    }


def _score(result: Row, salt: int) -> Row:
    model = result["model"]
    return {
        "salt": salt,
        "graph": result["graph"]["accuracy"],
        "accuracy": model["accuracy"],
        "interval95": model["interval95"],
        "total": model["total"],
        "agreement": result["agreement"],
        "bytes": result["bytes"]["model"],
    }


def _mean(rows: list[Row]) -> Row:
    """Return means over salts; `drop` is in points, the interval is that of one split."""
    drops = [100 * (row["graph"] - row["accuracy"]) for row in rows]
    return {
        "accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "interval95": np.mean([row["interval95"] for row in rows], axis=0).tolist(),
        "drop": float(np.mean(drops)),
        "agreement": float(np.mean([row["agreement"] for row in rows])),
        "bytes": rows[0]["bytes"],
        "salts": rows,
    }


def time_models(models: list[Path], pythons: list[Path], runs: int) -> list[list[Row]]:
    """Return for each model, for each Python: its runtime and times, or why it does not run.

    The models take turns, each in a process of its own, so that drift hits all alike.
    """
    rows_of_models: list[list[Row]] = [[{"ns": []} for _ in pythons] for _ in models]
    with packages() as folder:
        for _ in range(ROUNDS):
            for model, rows in zip(models, rows_of_models, strict=True):
                job = {
                    "load": "bench.load_tflite:load_tflite",
                    "arguments": {"path": str(model), "threads": 1},
                    "runs": runs,
                    "seconds": TIMEOUT_S,
                }
                for python, row in zip(pythons, rows, strict=True):
                    if "refused" in row:
                        continue
                    try:
                        figures = call(
                            model.name,
                            "bench.time_one_round:measure",
                            job,
                            folder,
                            python=str(python),
                        )
                    except RetrainError as error:
                        row.update(refused=str(error))
                    else:
                        runtime = f"{figures['runtime']} {figures['version']}"
                        row.update(runtime=runtime, ns=row["ns"] + figures["samples_ns"])
    for rows in rows_of_models:
        for row in rows:
            samples = row.pop("ns")
            if "refused" not in row:
                row["ms"] = asdict(milliseconds([samples]))
    return rows_of_models


def table(measured: Row) -> str:
    """Return a line for each recipe; drop is in points below the graph, times are medians."""
    rows = measured["recipes"]
    salts = len(next(iter(rows.values()))["salts"])
    names = _runtimes(rows)
    lines = [
        f"{measured['photos']}, {measured['network']}: graph {measured['graph']:.1%}, "
        f"salts 1 to {salts}",
        f"{'recipe':<15}{'accuracy':>9}{'95% interval':>18}{'drop':>7}{'agreement':>11}{'MB':>7}"
        + "".join(f"{name:>23}" for name in names),
    ]
    for name, row in rows.items():
        low, high = row["interval95"]
        cells = "".join(
            f"{times['ms']['p50']:>20.1f} ms" if "ms" in times else f"{'refused':>23}"
            for times in row["times"]
        )
        lines.append(
            f"{name:<15}{row['accuracy']:>9.1%}{f'{low:.1%} to {high:.1%}':>18}{row['drop']:>7.2f}"
            f"{row['agreement']:>11.1%}{row['bytes'] / 1e6:>7.2f}{cells}"
        )
    reasons = {
        f"{name}, {runtime}: {times['refused']}"
        for name, row in rows.items()
        for runtime, times in zip(names, row["times"], strict=True)
        if "refused" in times
    }
    return "\n".join([*lines, *sorted(reasons)])


def _runtimes(rows: Mapping[str, Row]) -> list[str]:
    """Return the names of the runtimes, in the order of times."""
    columns = zip(*(row["times"] for row in rows.values()), strict=True)
    return [
        next((times["runtime"] for times in column if "ms" in times), "none ran")
        for column in columns
    ]


if __name__ == "__main__":
    run(main)
