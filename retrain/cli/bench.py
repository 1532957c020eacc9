"""`retrain bench`: the commands of `bench`, after which the page of the run is refreshed."""

from importlib.util import find_spec
from pathlib import Path

from bench.cli import bench
from retrain.cli.options import progress, refresh_report


@bench.result_callback()
def _refresh(output_dir: Path | None) -> None:
    """Refresh report.html where `bench run` returns the run folder that it measured.

    Without the packages of training there is none to refresh.
    """
    if output_dir and (output_dir / "metrics.json").exists() and find_spec("jinja2"):
        refresh_report(output_dir, progress())


__all__ = ["bench"]
