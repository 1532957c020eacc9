"""`python -m deploy`: the device's commands where `retrain` is not installed."""

from deploy.cli import commands

commands(prog_name="python -m deploy")
