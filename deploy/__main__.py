"""`python -m deploy`, and `classify.pyz`, whose model is beside it: the device's commands."""

import sys
from pathlib import Path

from deploy.cli import commands

program = Path(sys.argv[0])
if program.name == "__main__.py":
    commands(prog_name="python -m deploy")
defaults = {"model": str(program.with_name("model.tflite"))}
commands(prog_name=program.name, default_map=dict.fromkeys(commands.commands, defaults))
