"""Time training steps on a quiet machine and on a busy one: `python -m bench.experiments.busy`.

By turns, each in a process of its own as in `bench.experiments.steps`: a cache of 3,000
photos is trained on alone, then beside as many processes that only compute as there are cores.
Beside those, half of the machine is a fair share: twice the time is the least to expect.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.experiments import steps as few_and_many
from bench.machine import read_state, save
from deploy.cli import ending
from deploy.system.child_process import lifeline
from deploy.system.cores import cores
from deploy.system.terminal import say_table

BAR = 2.5
"""Times as long on the busy machine, at most."""
_COMPUTE = """
from deploy.system.child_process import end_with_parent
end_with_parent()
while True:
    sum(range(100_000))
"""


@click.command()
@click.option("--steps", default=4000, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--processes", type=click.IntRange(1), help="Busy ones.  [default: as many as cores]")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Save the figures here.")
def main(steps: int, rounds: int, processes: int | None, path: Path | None) -> None:
    """Print what training steps take alone, and beside busy processes."""
    figures = measure(steps, rounds, processes or cores())
    if path:
        save(path, figures)
    say_table(table(figures))


def measure(steps: int, rounds: int, processes: int) -> dict[str, Any]:
    """Return the seconds of each pair of runs as JSON values; raise BadData."""
    pairs: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="retrain-") as temporary:
        folder = Path(temporary)
        few_and_many.write(folder, few_and_many.FEW)
        for _ in range(rounds):
            before = read_state().load
            quiet = few_and_many.train(folder, few_and_many.FEW, steps)["fit_s"]
            with busy(processes):
                loaded = few_and_many.train(folder, few_and_many.FEW, steps)["fit_s"]
            pairs.append({"load_before": before, "quiet_s": quiet, "busy_s": loaded})
    return {
        "steps": steps,
        "photos": few_and_many.FEW,
        "batch": few_and_many.BATCH,
        "cores": cores(),
        "busy_processes": processes,
        "pairs": pairs,
        "ratio": median(pair["busy_s"] / pair["quiet_s"] for pair in pairs),
        "bar": BAR,
    }


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processes busy for the block."""
    with ExitStack() as stack:
        stdin = stack.enter_context(lifeline())
        for _ in range(processes):
            command = [sys.executable, "-c", _COMPUTE]
            process = subprocess.Popen(command, stdin=stdin)  # noqa: S603 (our own code)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def table(figures: dict[str, Any]) -> str:
    """Return the text that shows each pair, and the bar."""
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
    ending(partial(main, standalone_mode=False))
