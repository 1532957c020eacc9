"""Write the commands that the page of a run names."""

import shlex
from pathlib import Path

from deploy.run_command import run_command
from retrain.data.photo import shown
from retrain.report.run_inputs import RunInputs
from retrain.run_folder import RunFolder
from retrain.stored_settings import options

_OF_FINE_TUNING = (
    "learning_rate",
    "weight_decay",
    "label_smoothing",
    "train_batch_size",
    "distortion",
    "views",
)
"""Settings of the head whose options are those of fine-tuning with --fine-tune."""
_NO_OPTIONS = ("output_dir", "image_dir", "per_tensor_dense", "fine_tuning")
"""Settings that a command names in another way, or that have no option."""


def command(run: RunFolder, *words: str) -> str:
    """Return the command of `words` for the run, as text that a page can hold."""
    return run_command(Path(shown(run.folder)), *words)


def convert_command(inputs: RunInputs, *words: str, without: tuple[str, ...] = ()) -> str:
    """Return the command that converts as the last time, but for the settings `without`.

    `words` are options that take their place.
    """
    settings = options(inputs.convert_settings, (*_NO_OPTIONS, *without))
    return command(inputs.run, "convert", *words, *settings)


def choose_command(inputs: RunInputs) -> str:
    """Return the command that tries all recipes."""
    replaced = ("choose", "recipe", "output_type", "keep_float", "explain")
    return convert_command(inputs, "--choose", without=replaced)


def fine_tune_command(inputs: RunInputs) -> str | None:
    """Return the command that fine-tunes on the same photos; None where that was done."""
    if inputs.is_adopted or inputs.metrics.object_or_none("fine_tuning"):
        return None
    # A SavedModel is written into an empty folder only.
    left_out = (*_NO_OPTIONS, *_OF_FINE_TUNING, "saved_model_dir", "resume")
    settings = options(inputs.settings, left_out)
    place = shown(inputs.source.image_dir)
    return command(inputs.run, "train", place, "--fine-tune", *settings)


def doctor_command(run: RunFolder) -> str:
    """Return the command that examines the run's photos, from any folder."""
    return shlex.join(("retrain", "doctor", shown(run.folder.absolute())))
