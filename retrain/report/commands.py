"""Write the commands that the page of a run names."""

import shlex

from retrain.data.photo import shown
from retrain.report.run_inputs import RunInputs
from retrain.run_folder import RunFolder
from retrain.settings.training import TrainSettings


def command(run: RunFolder, *words: str) -> str:
    """Return the command of `words` for the run's folder."""
    is_usual = run.folder == TrainSettings.output_dir
    return shlex.join(
        ("retrain", *words, *(() if is_usual else ("--output-dir", shown(run.folder))))
    )


def fine_tune_command(inputs: RunInputs) -> str | None:
    """Return the command that fine-tunes on the same photos; None where that was done."""
    if inputs.is_adopted or inputs.metrics.object_or_none("fine_tuning"):
        return None
    words = ["train", shown(inputs.source.image_dir), "--fine-tune"]
    if inputs.source.graph:
        words += ["--graph", shown(inputs.source.graph)]
    elif inputs.source.architecture != type(inputs.source).architecture:
        words += ["--architecture", inputs.source.architecture]
    return command(inputs.run, *words)
