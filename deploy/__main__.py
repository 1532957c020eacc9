"""`python -m deploy`, and `classify.pyz`, whose model is beside it: the device's commands.

Kept to what an older Python can read, so that it can say that it is too old.
"""

import sys
from pathlib import Path

from deploy.bundle_texts import OLDEST_PYTHON
from deploy.errors import MissingPackage, WrongUse
from deploy.system.streams import attach
from deploy.system.terminal import say


def _end(error: WrongUse) -> None:
    say(f"Error: {error}", err=True)
    sys.exit(error.exit_code)


attach()
if sys.version_info < OLDEST_PYTHON:
    have, least = (".".join(map(str, v[:2])) for v in (sys.version_info, OLDEST_PYTHON))
    _end(WrongUse(f"Python {least} or later is needed, this is {have}"))
try:
    from deploy.cli import commands
except KeyboardInterrupt:
    sys.exit(130)
except ImportError as error:
    missing = MissingPackage.of_device(error)
    if not missing:
        raise
    _end(missing)

program = Path(sys.argv[0])
if program.name == "__main__.py":
    commands(prog_name="python -m deploy")
defaults = {"model": str(program.with_name("model.tflite"))}
commands(prog_name=program.name, default_map=dict.fromkeys(commands.commands, defaults))
