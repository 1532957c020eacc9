"""`python -m bench.experiments.repeat` repeats a `retrain bench`.

Other arguments go to every `retrain bench`. A p50 drifts with the machine; a ratio of two p50s,
taken by turns, should not: that is what the bench is for.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.machine import save
from bench.record import Key, keyed
from bench.report import Row, render
from bench.stats import variation
from deploy.cli import ending
from deploy.errors import BadData, GateFailed
from deploy.system.terminal import say_table


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--times", default=5, show_default=True, type=click.IntRange(2))
@click.option(
    "--max-variation",
    type=click.FloatRange(0),
    help="Percent; a ratio that varies more is exit code 4.",
)
@click.option("--save", "path", type=click.Path(path_type=Path), help="Save the figures here.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(
    times: int, max_variation: float | None, path: Path | None, options: tuple[str, ...]
) -> None:
    """Print p50 and ratio of each runner at each time, and their coefficients of variation."""
    figures = summary([_bench(options) for _ in range(times)])
    if path:
        save(path, {"options": list(options), "runners": figures})
    say_table(table(figures))
    if max_variation is None:
        return
    wide = [each for each in figures if 100 * each["ratio_variation"] > max_variation]
    if wide:
        raise GateFailed(
            "\n".join(
                f"{_key(each)}: its ratio varies by {each['ratio_variation']:.1%} "
                f"(more than {max_variation:g}%)"
                for each in wide
            )
        )


def _bench(options: Sequence[str]) -> Any:
    """Return the record of one `retrain bench`; end as it does if it fails: it says why itself."""
    command = [sys.executable, "-m", "retrain", "bench", *options, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 (ourselves)
    if done.returncode < 0:
        raise BadData(f"retrain bench was killed ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        raise click.exceptions.Exit(done.returncode)
    return json.loads(done.stdout)


def summary(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the p50s and ratios of each runner that is in all records, and how much they vary."""
    found = []
    first, *others = keyed(records)
    for key in (key for key in first if all(key in each for each in others)):
        runners = [each[key] for each in (first, *others)]
        p50s = [each["ms"]["p50"] for each in runners]
        ratios = [each["ratio_p50"] for each in runners]
        found.append(
            {
                **key._asdict(),
                "p50_ms": p50s,
                "p50_variation": variation(p50s),
                "ratio": ratios,
                "ratio_variation": variation(ratios),
            }
        )
    return found


def _key(figures: dict[str, Any]) -> Key:
    return Key(*(figures[name] for name in Key._fields))


def table(figures: list[dict[str, Any]]) -> str:
    """Return the text that shows what `summary` found."""
    rows: list[Row] = [("model", "runtime", "threads", "p50 ms", "varies", "ratio", "varies ")]
    for each in figures:
        rows.append(
            (
                each["model"],
                _key(each).where,
                str(each["threads"]),
                " ".join(f"{value:.2f}" for value in each["p50_ms"]),
                f"{each['p50_variation']:.1%}",
                " ".join(f"{value:.3f}" for value in each["ratio"]),
                f"{each['ratio_variation']:.1%}",
            )
        )
    return render(rows)


if __name__ == "__main__":
    ending(partial(main, standalone_mode=False))
