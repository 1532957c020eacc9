"""Write a command of `retrain` for a run, so that a person can copy it from a message."""

import shlex
from pathlib import Path

DEFAULT_RUN_FOLDER = Path("retrained")
"""The run of a command that names none."""


def run_command(folder: Path, *words: str) -> str:
    """Return the command of `words` for the run in `folder`; the default folder is not named.

    A word such as DIR stands for what the user has to put there.
    """
    place = () if folder == DEFAULT_RUN_FOLDER else ("--output-dir", str(folder))
    return shlex.join(("retrain", *words, *place))
