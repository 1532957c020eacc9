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
    "backbones": ("retrain.cli.backbones", "List the available backbones."),
    "bottlenecks": ("retrain.cli.bottlenecks", "Compute the bottleneck of each photo in a folder."),
    "train": ("retrain.cli.train", "Train the final layer on a folder of photos."),
    "adopt": ("retrain.cli.adopt", "Make a run from a frozen graph, without training it."),
    "convert": ("retrain.cli.convert", "Convert the trained graph to a quantized TFLite model."),
    "inspect": ("retrain.cli.inspect", "Print what a .tflite file contains."),
    "bench": ("bench.cli", "Measure the latency of graphs and models."),
    "label": ("retrain.cli.label", "Print the best labels of photos."),
    "watch": ("deploy.cli.watch", "Watch a camera, and print its label when it changes."),
    "bundle": ("retrain.cli.bundle", "Write the folder that is copied to a device."),
    "push": ("retrain.cli.push", "Install the bundle on a device over ssh."),
    "summary": ("retrain.cli.summary", "Print what train, convert and bench measured."),
}
_OURS = ("retrain", "deploy", "bench")


class _LazyCommands(Commands):
    """The commands of `retrain`; each module is imported when its command is called."""

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


@click.group(cls=_LazyCommands, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="retrain")
def commands() -> None:
    """Train an image classifier for small devices on your own photos.

    You need a folder of photos with one sub-folder for each class. `retrain train DIR` trains
    the final layer of a pretrained network, `retrain convert` makes a TFLite model of it, and
    `retrain push` installs that on a device.
    """
