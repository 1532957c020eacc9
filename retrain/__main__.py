"""`python -m retrain`: the same as `retrain`."""

from retrain.cli import commands

commands(prog_name="retrain")
