"""`python -m bench.repeat` runs the same `retrain bench` several times: how much figures vary.

Other arguments go to every `retrain bench`. A p50 drifts with the machine; a ratio of two p50s,
taken by turns, should not: that is what the bench is for.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.machine import save
from bench.stats import variation
from bench.table import Row, render
from deploy.cli import ending


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--times", default=5, show_default=True, type=click.IntRange(2))
@click.option("--save", "path", type=click.Path(path_type=Path), help="Save the figures here.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(times: int, path: Path | None, options: tuple[str, ...]) -> None:
    """Print p50 and ratio of each runner at each time, and their coefficients of variation."""
    command = [sys.executable, "-m", "retrain", "bench", *options, "--json"]
    records = [
        json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)  # noqa: S603
        for _ in range(times)
    ]
    figures = summary(records)
    if path:
        save(path, {"options": list(options), "runners": figures})
    click.echo(table(figures))


def summary(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the p50s and ratios of each runner in all records, and how much they vary."""
    found = []
    for runners in zip(*(record["runners"] for record in records), strict=True):
        p50s = [each["ms"]["p50"] for each in runners]
        ratios = [each["ratio_p50"] for each in runners]
        found.append(
            {
                **{name: runners[0][name] for name in ("model", "runtime", "threads")},
                "p50_ms": p50s,
                "p50_variation": variation(p50s),
                "ratio": ratios,
                "ratio_variation": variation(ratios),
            }
        )
    return found


def table(figures: list[dict[str, Any]]) -> str:
    """Return the text that shows what `summary` found."""
    rows: list[Row] = [("model", "runtime", "threads", "p50 ms", "varies", "ratio", "varies ")]
    for each in figures:
        rows.append(
            (
                *(str(each[name]) for name in ("model", "runtime", "threads")),
                " ".join(f"{value:.2f}" for value in each["p50_ms"]),
                f"{each['p50_variation']:.1%}",
                " ".join(f"{value:.3f}" for value in each["ratio"]),
                f"{each['ratio_variation']:.1%}",
            )
        )
    return render(rows)


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
