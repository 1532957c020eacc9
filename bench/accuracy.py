"""`python -m bench.accuracy DIR`: test accuracy of graph and .tflite over several splits.

Each split is another `--split-salt`: 1, 2, 3... The product's own commands do the work, and
their JSON gives the figures; nothing of it is imported.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.machine import save


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--salts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--json", "path", type=click.Path(path_type=Path), help="Save the figures here.")
@click.argument("train_options", nargs=-1, type=click.UNPROCESSED)
def main(folder: Path, salts: int, path: Path | None, train_options: tuple[str, ...]) -> None:
    """Train and convert on DIR with salts 1 to SALTS; other options go to `retrain train`."""
    rows = [_measure(folder, str(salt), train_options) for salt in range(1, salts + 1)]
    click.echo(f"{'salt':<6}{'graph':>8}{'int8':>8}{'agree':>8}{'N':>6}")
    for row in rows:
        click.echo(
            f"{row['salt']:<6}{row['graph']:>8.1%}{row['int8']:>8.1%}"
            f"{row['agreement']:>8.1%}{row['total']:>6}"
        )
    mean = {
        key: float(np.mean([row[key] for row in rows])) for key in ("graph", "int8", "agreement")
    }
    click.echo(f"{'mean':<6}{mean['graph']:>8.2%}{mean['int8']:>8.2%}{mean['agreement']:>8.2%}")
    if path:
        save(path, {"folder": folder.name, "train": train_options, "salts": rows, "mean": mean})


def _measure(folder: Path, salt: str, options: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="retrain-") as out:
        where = ("--output-dir", out, "--json")
        _retrain("train", str(folder), "--split-salt", salt, *where, *options)
        # Only the figures are wanted here, those of a refused model too.
        result = _retrain("convert", *where, "--max-accuracy-drop", "100")
    return {
        "salt": salt,
        "graph": result["graph"]["accuracy"],
        "int8": result["model"]["accuracy"],
        "agreement": result["agreement"],
        "total": result["graph"]["total"],
    }


def _retrain(*arguments: str) -> Any:
    command = [sys.executable, "-m", "retrain", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
