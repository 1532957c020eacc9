"""Repeat one `retrain bench`: `python -m bench.experiments.repeat`.

Other arguments go to every `retrain bench run`. A p50 drifts with the machine; the ratio of two
p50s that are measured by turns should not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.experiments.shared import json_option, retrain, run, save
from bench.match_runners import Key, runners_by_key
from bench.record import BenchRecord
from bench.report import Row, render
from bench.stats import variation
from deploy.errors import GateFailed
from deploy.system.terminal import say_table
from deploy.versioned_json import Fields


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--times", default=5, show_default=True, type=click.IntRange(2))
@click.option(
    "--max-variation",
    type=click.FloatRange(0),
    help="Percent; a ratio that varies more gives exit code 4.",
)
@json_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(
    times: int, max_variation: float | None, output: Path | None, options: tuple[str, ...]
) -> None:
    """Print p50 and ratio of each runner at each time, and their coefficients of variation."""
    figures = summary([measure(options) for _ in range(times)])
    if output:
        save(output, {"options": list(options), "runners": figures})
    say_table(table(figures))
    if max_variation is None:
        return
    wide = [row for row in figures if 100 * row["ratio_variation"] > max_variation]
    if wide:
        raise GateFailed(
            "\n".join(
                f"{_key(row)}: its ratio varies by {row['ratio_variation']:.1%} "
                f"(more than {max_variation:g}%)"
                for row in wide
            )
        )


def measure(options: Sequence[str]) -> BenchRecord:
    """Run `retrain bench run` with `options`, and return its record."""
    return BenchRecord.from_json(Fields(retrain("bench", "run", *options), "retrain bench", ""))


def summary(records: Sequence[BenchRecord]) -> list[dict[str, Any]]:
    """Return p50s, ratios and their variation for each runner that is in all records."""
    rows = []
    first, *rest = runners_by_key(records)
    for key in (key for key in first if all(key in runners for runners in rest)):
        matched = [runners[key] for runners in (first, *rest)]
        p50s = [runner.ms.p50 for runner in matched]
        ratios = [runner.ratio_p50 for runner in matched]
        rows.append(
            {
                **key._asdict(),
                "p50_ms": p50s,
                "p50_variation": variation(p50s),
                "ratio": ratios,
                "ratio_variation": variation(ratios),
            }
        )
    return rows


def _key(figures: dict[str, Any]) -> Key:
    return Key(*(figures[name] for name in Key._fields))


def table(figures: list[dict[str, Any]]) -> str:
    """Return a table of what `summary` returns."""
    rows: list[Row] = [("model", "runtime", "threads", "p50 ms", "varies", "ratio", "varies ")]
    for row in figures:
        rows.append(
            (
                row["model"],
                _key(row).where,
                str(row["threads"]),
                " ".join(f"{value:.2f}" for value in row["p50_ms"]),
                f"{row['p50_variation']:.1%}",
                " ".join(f"{value:.3f}" for value in row["ratio"]),
                f"{row['ratio_variation']:.1%}",
            )
        )
    return render(rows)


if __name__ == "__main__":
    run(main)
