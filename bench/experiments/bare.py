"""Compare our invoke with a bare loop: `python -m bench.experiments.bare MODEL`.

In one process, ten calls by turns: as `retrain bench` makes them, from the input array to the
output array, and as people time by hand, around `Interpreter.invoke` alone.
"""

import sys
import time
from pathlib import Path
from typing import Any

import click

from bench.experiments.shared import json_option, run, save
from bench.load_tflite import load_tflite, random_tensor
from bench.stats import milliseconds, ratio
from bench.time_one_round import Limits, time_calls
from bench.worker_process import TIMEOUT_S, call, packages
from deploy import model_file
from deploy.errors import GateFailed
from deploy.runtime import find_runtime
from deploy.system.terminal import say

MAX_DIFFERENCE = 0.05
CALLS_PER_TURN = 10


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(2))
@click.option("--runs", default=100, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--runtime", default="LiteRT", show_default=True)
@click.option("--runtime-python", "python", default=sys.executable, help="Another Python.")
@json_option
def main(
    model: Path,
    rounds: int,
    runs: int,
    threads: int,
    runtime: str,
    python: str,
    output: Path | None,
) -> None:
    """Print both p50s of a MODEL of `retrain convert`; exit 4 if they differ by more than 5%."""
    arguments = {
        "path": str(model.resolve()), "threads": threads, "runtime": runtime, "runs": runs
    }  # fmt: skip
    with packages() as folder:
        pairs = [
            call("the loops", "bench.experiments.bare:time_both", arguments, folder, python=python)
            for _ in range(rounds)
        ]
    ours, bare = zip(*pairs, strict=True)
    value, (low, high) = ratio(ours, bare)
    our_ms, bare_ms = (milliseconds(samples).p50 for samples in (ours, bare))
    if output:
        figures = {"ours_ms": our_ms, "bare_ms": bare_ms, "ratio": value, "interval95": [low, high]}
        save(output, {"model": model.name, "runtime": runtime, "threads": threads, **figures})
    say(
        f"{model}, {runtime}, threads {threads}: ours {our_ms:.3f} ms, bare {bare_ms:.3f} ms, "
        f"ratio {value:.3f} ({low:.3f} to {high:.3f})"
    )
    if abs(value - 1) > MAX_DIFFERENCE:
        raise GateFailed(f"they differ by more than {MAX_DIFFERENCE:.0%}")


def time_both(path: str, threads: int, runtime: str, runs: int) -> tuple[list[int], list[int]]:
    """Return the ns of our calls, and of each `Interpreter.invoke` of a loop by hand."""
    loaded = load_tflite(path, threads, runtime)
    interpreter: Any = find_runtime(runtime).interpreter(
        model_content=model_file.read(Path(path)).flatbuffer, num_threads=threads
    )
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], random_tensor(tuple(detail["shape"]), detail["dtype"]))
    ours: list[int] = []
    bare: list[int] = []
    while len(bare) < runs:
        # The first call of a turn does not count: the other model has filled the caches.
        ours += time_calls(loaded.call, Limits(CALLS_PER_TURN + 1, TIMEOUT_S))[1:]
        interpreter.invoke()
        for _ in range(CALLS_PER_TURN):
            start = time.perf_counter_ns()
            interpreter.invoke()
            bare.append(time.perf_counter_ns() - start)
    return ours, bare


if __name__ == "__main__":
    run(main)
