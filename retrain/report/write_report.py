"""Write the page that shows a run."""

from pathlib import Path

from deploy import files
from retrain.progress import Progress
from retrain.report.collect import collect
from retrain.report.render import render
from retrain.report.run_inputs import read_inputs
from retrain.run_folder import RunFolder


def write_report(run: RunFolder, progress: Progress | None = None) -> Path:
    """Write report.html of the run, and return its path.

    What the doctor finds and the learning curve are taken from the run if they are of its graph
    and photos, else computed and written there. Raises BadData if a file of the run is missing or
    damaged, WrongUse if another process writes into it, or for more than MAX_EXAMINED photos.
    """
    progress = progress or Progress()
    run.read_contract()  # raises if there is no run, before a folder is created for one
    with run.writing(), progress.stage("report"):
        files.write(run.report, render(collect(read_inputs(run), progress)))
    return run.report
