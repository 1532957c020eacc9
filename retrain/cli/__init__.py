"""The `retrain` command: a group that imports a command only when it is called."""

import importlib
from pathlib import Path
from typing import Any

import click

from deploy.cli import SETTINGS, Commands
from deploy.errors import MissingPackage, WrongUse
from retrain import __version__

_COMMANDS = {
    "sample": ("retrain.cli.sample", "Put a sample data set into a folder."),
    "backbones": ("retrain.cli.backbones", "List the networks that there are."),
    "bottlenecks": ("retrain.cli.bottlenecks", "Analyse each photo of a folder once."),
    "train": ("retrain.cli.train", "Train the final layer on a folder of photos."),
    "adopt": ("retrain.cli.adopt", "Make a run of a frozen graph as it is, without training."),
    "convert": ("retrain.cli.convert", "Make a quantized TFLite model of the trained graph."),
    "inspect": ("retrain.cli.inspect", "Print everything in a .tflite file."),
    "bench": ("bench.cli", "Time graphs and models against each other."),
    "label": ("retrain.cli.label", "Print the best labels of photos."),
    "watch": ("deploy.cli.watch", "Print the label of what a camera sees, when it changes."),
    "bundle": ("retrain.cli.bundle", "Make the folder that is copied to a device."),
    "push": ("retrain.cli.push", "Copy the bundle to a device over ssh, and test it there."),
    "summary": ("retrain.cli.summary", "Print what train, convert and bench measured."),
}
_OURS = ("retrain", "deploy", "bench")


class _Lazy(Commands):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            Path.cwd()
        except OSError as error:
            raise WrongUse(
                f"the working directory cannot be used ({error.strerror}): it was deleted or is "
                "locked: cd into another folder, then run this again"
            ) from error
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in _OURS:
                raise
            raise MissingPackage.of(error) from error


@click.group(cls=_Lazy, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="retrain")
def commands() -> None:
    """Retrain an image classifier's final layer for small devices.

    From a folder of photos, one sub-folder a class, to a measured TFLite model.
    """
