"""`python -m bench.experiments.bare MODEL` holds the invoke that we report against a bare loop.

In one process, ten calls by turns: as `retrain bench` takes them, from the input array to the
output array, and as people time by hand, around `Interpreter.invoke` alone.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.load_tflite import random_tensor, tflite
from bench.stats import milliseconds, ratio
from bench.time_one_round import Limits, timed
from bench.worker_process import PATIENCE_S, call, packages
from deploy import model_file
from deploy.cli import ending
from deploy.errors import GateFailed
from deploy.runtime import find_runtime
from deploy.system.terminal import say

WITHIN = 0.05
TURN = 10


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(2))
@click.option("--runs", default=100, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--runtime", default="LiteRT", show_default=True)
@click.option("--runtime-python", "python", default=sys.executable, help="Another Python.")
def main(model: Path, rounds: int, runs: int, threads: int, runtime: str, python: str) -> None:
    """Print both p50s of a MODEL of `retrain convert`; exit 4 if they differ by more than 5%."""
    arguments = {"path": str(model.resolve()), "threads": threads, "runtime": runtime}
    job = {**arguments, "runs": runs}
    with packages() as folder:
        taken = [
            call("the loops", "bench.experiments.bare:both", job, folder, python=python)
            for _ in range(rounds)
        ]
    ours, bare = zip(*taken, strict=True)
    value, (low, high) = ratio(ours, bare)
    paces = [milliseconds(each)["p50"] for each in (ours, bare)]
    say(
        f"{model}, {runtime}, threads {threads}: ours {paces[0]:.3f} ms, bare {paces[1]:.3f} ms, "
        f"ratio {value:.3f} ({low:.3f} to {high:.3f})"
    )
    if abs(value - 1) > WITHIN:
        raise GateFailed(f"they differ by more than {WITHIN:.0%}")


def both(path: str, threads: int, runtime: str, runs: int) -> tuple[list[int], list[int]]:
    """Return the nanoseconds of our calls, and of each `Interpreter.invoke` of a loop by hand."""
    loaded = tflite(path, threads, runtime)
    interpreter: Any = find_runtime(runtime).interpreter(
        model_content=model_file.read(Path(path)).flatbuffer, num_threads=threads
    )
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], random_tensor(tuple(detail["shape"]), detail["dtype"]))
    ours: list[int] = []
    bare: list[int] = []
    while len(bare) < runs:
        # The first call of a turn is not kept: it finds the caches filled by the other model.
        ours += timed(loaded.call, Limits(TURN + 1, PATIENCE_S))[1:]
        interpreter.invoke()
        for _ in range(TURN):
            start = time.perf_counter_ns()
            interpreter.invoke()
            bare.append(time.perf_counter_ns() - start)
    return ours, bare


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
