"""Run the device's commands: `python -m deploy`, or `classify.pyz` with the model beside it.

An older Python can parse this file, so that it can say that it is too old.
"""

import sys
from pathlib import Path

from deploy.errors import MissingPackage, WrongUse
from deploy.requirements import OLDEST_PYTHON
from deploy.system.streams import attach
from deploy.system.terminal import say


def _exit(error: WrongUse) -> None:
    say(f"Error: {error}", err=True)
    sys.exit(error.exit_code)


attach()
if sys.version_info < OLDEST_PYTHON:
    this, oldest = (".".join(map(str, v[:2])) for v in (sys.version_info, OLDEST_PYTHON))
    _exit(WrongUse(f"Python {oldest} or later is needed, this is {this}"))
try:
    from deploy.cli import commands
except KeyboardInterrupt:
    sys.exit(130)
except ImportError as error:
    missing = MissingPackage.of_device(error)
    if not missing:
        raise
    _exit(missing)

program = Path(sys.argv[0])
if program.name == "__main__.py":
    commands(prog_name="python -m deploy")
place = program.resolve() if program.is_symlink() else program
defaults = {"model": str(place.with_name("model.tflite"))}
commands(prog_name=program.name, default_map=dict.fromkeys(commands.commands, defaults))
