"""Time training steps on a quiet machine and on a busy one: `python -m bench.experiments.busy`.

By turns, each in a process of its own as in `bench.experiments.steps`: a cache of 3,000 photos is
trained on alone, then beside processes that only compute, as many as there are cores. Half of the
machine is then a fair share, so that twice the time is the least to expect.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.experiments.shared import json_option, run, save
from bench.experiments.steps import BATCH, FEW, train, write
from bench.machine import read_state
from bench.worker_process import packages
from deploy.system.child_process import end_with_parent, lifeline
from deploy.system.cores import cores
from deploy.system.terminal import say_table

MAX_RATIO = 2.5


@click.command()
@click.option("--steps", default=4000, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--processes", type=click.IntRange(1), help="Busy ones.  [default: as many as cores]")
@json_option
def main(steps: int, rounds: int, processes: int | None, output: Path | None) -> None:
    """Print what training steps take alone, and beside busy processes."""
    figures = measure(steps, rounds, processes or cores())
    if output:
        save(output, figures)
    say_table(table(figures))


def measure(steps: int, rounds: int, processes: int) -> dict[str, Any]:
    """Return the seconds of each pair of runs as JSON values; raise BadData."""
    pairs: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="retrain-") as temporary, packages() as code:
        folder = Path(temporary)
        write(folder, FEW, code)
        for _ in range(rounds):
            before = read_state().load
            quiet_s = train(folder, FEW, steps, code)["fit_s"]
            with busy(processes):
                busy_s = train(folder, FEW, steps, code)["fit_s"]
            pairs.append({"load_before": before, "quiet_s": quiet_s, "busy_s": busy_s})
    return {
        "steps": steps,
        "photos": FEW,
        "batch": BATCH,
        "cores": cores(),
        "busy_processes": processes,
        "pairs": pairs,
        "ratio": median(pair["busy_s"] / pair["quiet_s"] for pair in pairs),
        "bar": MAX_RATIO,
    }


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep this number of processes busy for the block."""
    with ExitStack() as stack:
        stdin = stack.enter_context(lifeline())
        for _ in range(processes):
            command = [
                sys.executable,
                "-c",
                "from bench.experiments.busy import compute; compute()",
            ]
            process = subprocess.Popen(command, stdin=stdin)  # noqa: S603 (our own code)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def compute() -> None:
    """Compute until the parent process ends."""
    end_with_parent()
    while True:
        sum(range(100_000))


def table(figures: dict[str, Any]) -> str:
    """Return each pair, and the most that their ratio should be."""
    lines = [
        f"{figures['steps']} steps on {figures['photos']} photos, batch {figures['batch']}, "
        f"{figures['cores']} cores, {figures['busy_processes']} busy processes",
        f"{'load before':>12}{'alone s':>10}{'busy s':>10}{'ratio':>8}",
    ]
    for pair in figures["pairs"]:
        load = "-" if pair["load_before"] is None else f"{pair['load_before']:.1f}"
        ratio = pair["busy_s"] / pair["quiet_s"]
        lines.append(f"{load:>12}{pair['quiet_s']:>10.2f}{pair['busy_s']:>10.2f}{ratio:>8.2f}")
    lines.append(f"busy/alone: {figures['ratio']:.2f} (at most {figures['bar']:g})")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
