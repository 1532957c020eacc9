"""The `retrain` command: a group that imports a command only when it is called."""

import importlib
from pathlib import Path
from typing import Any

import click

from deploy.cli import SETTINGS, Commands
from deploy.errors import MissingPackage, WrongUse
from retrain import __version__

_SECTIONS = {
    "From photos to a model": {
        "sample": ("retrain.cli.sample", "Put a sample data set into a folder."),
        "doctor": ("retrain.cli.doctor", "Say what is wrong with the photos."),
        "train": ("retrain.cli.train", "Train the final layer on a folder of photos."),
        "convert": (
            "retrain.cli.convert",
            "Convert the trained graph to a quantized TFLite model.",
        ),
        "adopt": ("retrain.cli.adopt", "Make a run from a frozen graph, without training it."),
        "backbones": ("retrain.cli.backbones", "List the available backbones."),
        "bottlenecks": (
            "retrain.cli.bottlenecks",
            "Compute the bottleneck of each photo in a folder.",
        ),
        "cache": ("retrain.cli.cache", "List, check, clear and export cached bottlenecks."),
    },
    "Use and check a model": {
        "label": ("retrain.cli.label", "Print the best labels of photos."),
        "watch": ("retrain.cli.watch", "Watch a camera, and print its label when it changes."),
        "report": (
            "retrain.cli.report",
            "Write the page that shows a run: how good, what to do next.",
        ),
        "summary": ("retrain.cli.summary", "Print what train, convert and bench measured."),
        "bench": ("retrain.cli.bench", "Measure the latency of graphs and models."),
        "inspect": ("retrain.cli.inspect", "Print what a .tflite file contains."),
    },
    "Put it on a device": {
        "push": ("retrain.cli.push", "Install the bundle on a device over ssh."),
        "bundle": ("retrain.cli.bundle", "Write the folder that is copied to a device."),
    },
}
_COMMANDS = {name: row for rows in _SECTIONS.values() for name, row in rows.items()}
_LONGEST = max(map(len, _COMMANDS))
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
        for title, rows in _SECTIONS.items():
            with formatter.section(title):
                names = [name.ljust(_LONGEST) for name in rows]
                texts = [text for _, text in rows.values()]
                formatter.write_dl(list(zip(names, texts, strict=True)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

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

    The road takes five commands. `sample` gets photos to try it with; photos of your own need one
    sub-folder for each class.

    \b
    retrain sample solar-cells photos   # 2,223 photos in 2 classes
    retrain train photos                # train the final layer of a network
    retrain convert                     # write retrained/model.tflite
    retrain label photo.jpg             # print the labels of a photo
    retrain push pi@raspberrypi.local   # install it on a device
    """  # noqa: D301 (click takes the backspace for a paragraph that keeps its lines)
