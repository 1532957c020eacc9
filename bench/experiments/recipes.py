"""`python -m bench.experiments.recipes DIR...`: what each recipe costs and gains.

For each folder of photos and each network: accuracy on the test photos over several splits,
agreement with the graph, size, and time on this CPU with the runtime of this Python and, if
asked, of another. The product's own commands do the work.
"""

import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.experiments.accuracy import NO_BOUNDS, folders_argument, retrain
from bench.machine import save
from bench.stats import milliseconds
from bench.worker_process import PATIENCE_S, call, packages
from deploy.cli import ending
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
@click.option("--network", "networks", multiple=True, metavar="NAME=OPTIONS", help="Repeatable.")
@click.option("--recipe", "recipes", multiple=True, metavar="NAME=OPTIONS", help="Repeatable.")
@click.option("--salts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--runs", default=20, show_default=True, type=click.IntRange(1))
@click.option("--runtime-python", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--json", "path", type=click.Path(path_type=Path), help="Save the figures here.")
def main(
    folders: tuple[Path, ...],
    networks: tuple[str, ...],
    recipes: tuple[str, ...],
    salts: int,
    runs: int,
    runtime_python: Path | None,
    path: Path | None,
) -> None:
    """Measure every recipe on each DIR with each network, on splits of salt 1 to SALTS.

    A network is a name and options of `retrain train`, a recipe a name and options of `retrain
    convert`. RUNTIME_PYTHON needs click, numpy, Pillow and a TFLite runtime. Times are RUNS times 3
    calls from array to array, one thread, of the first salt's models.
    """
    pythons = [Path(sys.executable), *([runtime_python.absolute()] if runtime_python else [])]
    by_network, by_recipe = _named(networks) or NETWORKS, _named(recipes) or RECIPES
    found: list[Row] = []
    for folder in folders:
        for network, options in by_network.items():
            rows = measure(folder, shlex.split(options), by_recipe, salts, runs, pythons)
            found.append({"photos": folder.name, "network": network, "train": options, **rows})
            if path:  # hours of work: what is measured is kept
                save(path, {"runs": runs * ROUNDS, "recipes": by_recipe, "measured": found})
            say_table(table(found[-1]) + "\n")


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
        kept = {name: Path(temporary, f"{i}.tflite") for i, name in enumerate(recipes)}
        for salt in range(1, salts + 1):
            where = ("--output-dir", str(Path(temporary, str(salt))), "--json")
            trained = retrain("train", str(folder), "--split-salt", str(salt), *where, *options)
            graphs.append(trained["test"]["accuracy"])
            for name, quantize in recipes.items():
                result = retrain("convert", *where, *NO_BOUNDS, *shlex.split(quantize))
                scores[name].append(_score(result, salt))
                if salt == 1:
                    Path(where[1], "model.tflite").rename(kept[name])
        times = time_models(list(kept.values()), pythons, runs)
    return {
        "graph": float(np.mean(graphs)),
        "recipes": {
            name: {**_mean(scores[name]), "times": each}
            for name, each in zip(recipes, times, strict=True)
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
    """Return means over salts; `drop` is in points, and the interval that of one split's test."""
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

    By turns, so that drift hits all alike, each turn in a process of its own.
    """
    found: list[list[Row]] = [[{"ns": []} for _ in pythons] for _ in models]
    with packages() as folder:
        for _ in range(ROUNDS):
            for model, rows in zip(models, found, strict=True):
                job = {
                    "load": "bench.load_tflite:tflite",
                    "arguments": {"path": str(model), "threads": 1},
                    "runs": runs,
                    "seconds": PATIENCE_S,
                }
                for python, row in zip(pythons, rows, strict=True):
                    if "refused" in row:
                        continue
                    try:
                        done = call(
                            model.name,
                            "bench.time_one_round:measure",
                            job,
                            folder,
                            python=str(python),
                        )
                    except RetrainError as error:
                        row.update(refused=str(error))
                    else:
                        runtime = f"{done['runtime']} {done['version']}"
                        row.update(runtime=runtime, ns=row["ns"] + done["samples_ns"])
    for rows in found:
        for row in rows:
            samples = row.pop("ns")
            if "refused" not in row:
                row["ms"] = milliseconds([samples])
    return found


def table(measured: Row) -> str:
    """Return a line a recipe; drop is in points below the graph, times are medians."""
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
            f"{each['ms']['p50']:>20.1f} ms" if "ms" in each else f"{'refused':>23}"
            for each in row["times"]
        )
        lines.append(
            f"{name:<15}{row['accuracy']:>9.1%}{f'{low:.1%} to {high:.1%}':>18}{row['drop']:>7.2f}"
            f"{row['agreement']:>11.1%}{row['bytes'] / 1e6:>7.2f}{cells}"
        )
    reasons = {
        f"{name}, {runtime}: {each['refused']}"
        for name, row in rows.items()
        for runtime, each in zip(names, row["times"], strict=True)
        if "refused" in each
    }
    return "\n".join([*lines, *sorted(reasons)])


def _runtimes(rows: Mapping[str, Row]) -> list[str]:
    """Return the runtimes' names, in the order of times, from what ran on them."""
    columns = zip(*(row["times"] for row in rows.values()), strict=True)
    return [next((each["runtime"] for each in one if "ms" in each), "none ran") for one in columns]


def _named(values: tuple[str, ...]) -> dict[str, str]:
    return dict(value.partition("=")[::2] for value in values)


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
