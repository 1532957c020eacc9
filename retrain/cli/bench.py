"""`retrain bench`: the commands of `bench`, after which page and card of the run are refreshed."""

from importlib.util import find_spec
from pathlib import Path

from bench.cli import bench
from retrain.cli.options import progress, refresh_card, refresh_report


@bench.result_callback()
def _refresh(output_dir: Path | None) -> None:
    """Refresh report.html and the model card where `bench run` returns the folder of the run.

    Without the packages of training there is none to refresh.
    """
    if output_dir and (output_dir / "metrics.json").exists() and find_spec("jinja2"):
        from retrain.run_folder import RunFolder

        stages = progress()
        refresh_report(output_dir, stages)
        if RunFolder(output_dir).card.exists():
            refresh_card(output_dir, stages)


__all__ = ["bench"]
