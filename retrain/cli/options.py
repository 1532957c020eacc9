"""Define the options that several commands share."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from deploy.cli import name_options
from deploy.cli.help_groups import GENERAL, Groups
from deploy.cli.numbers import Number
from deploy.errors import RetrainError, WrongUse
from deploy.system.error_messages import explain
from retrain.cli.memory import release_free_memory
from retrain.settings.cache import default_cache_dir
from retrain.settings.source import (
    DEFAULT_ARCHITECTURE,
    Executor,
    ExtractEngine,
    ExtractPrecision,
    Source,
)
from retrain.settings.training import TrainSettings

if TYPE_CHECKING:
    from retrain.progress import Form, Progress, Verbosity
    from retrain.run_folder import RunFolder

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
SHARE = Number(0, 100, min_open=True, max_open=True)
"""A share of the photos in percent."""


class _Photos(click.ParamType):  # type: ignore[type-arg]
    """The place of photos: a Path, or the text of a URL."""

    name = "place"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path | str:
        """Return the place that a text names; fail for an empty one, which is no folder."""
        from retrain.data.remote_path import photo_path

        if not value:
            self.fail("it is empty: name the place of the photos", param, ctx)
        place = photo_path(value)
        return place if isinstance(place, Path) else str(place)


PHOTOS = _Photos()


OWN_NETWORK_GROUP: Groups = {
    "A network of your own": (
        "--graph",
        "--input-tensor",
        "--bottleneck-tensor",
        "--input-size",
        "--input-mean",
        "--input-std",
    ),
}
NETWORK_GROUPS: Groups = {"Network": ("--architecture", "--weights"), **OWN_NETWORK_GROUP}
CACHE_GROUP: Groups = {
    "Cache": (
        "--cache-dir",
        "--bottleneck-dir",
        "--extract-engine",
        "--extract-precision",
        "--trunk",
        "--executor",
        "--ray-address",
    )
}
SOURCE_GROUPS: Groups = {
    "Photos": ("--image-dir", "--labels-from"),
    **NETWORK_GROUPS,
    **CACHE_GROUP,
    **GENERAL,
}
"""Groups of the options that `source_options` and `json_option` add."""
CLASSIFIER_NAMES = (
    "--input-layer",
    "--output-layer",
    "--input-height",
    "--input-width",
    "--input-mean",
    "--input-std",
)
"""Names of the options that `classifier_options` adds."""


def image_size(text: str) -> int | tuple[int, int]:
    """Return height and width of `96x128`, one number for a square; raise BadParameter."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(re.fullmatch("[0-9]{1,4}", side) for side in sides):
        raise click.BadParameter(f"{text!r} is not height x width, such as 96x128, or one number")
    numbers = [int(side) for side in sides]
    if not all(1 <= side <= 4096 for side in numbers):
        raise click.BadParameter(f"{text!r} is not within 1..4096 pixels")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


_INPUT_SCALE = (
    click.option(
        "--input-mean",
        type=Number(0, 255),
        help="Mean that is subtracted from pixels of 0..255 before the network.",
    ),
    click.option(
        "--input-std",
        type=Number(0, min_open=True),
        help="Number that the pixels are then divided by.",
    ),
)

_PUBLISHED_NETWORK = (
    click.option(
        "--architecture",
        help="Use this backbone; `retrain backbones` lists them.  "
        f"[default: {DEFAULT_ARCHITECTURE}]",
    ),
    click.option(
        "--weights", type=FILE, help="Use the weights in this file instead of the published ones."
    ),
)

_OWN_NETWORK = (
    click.option(
        "--graph",
        type=click.Path(path_type=Path, exists=True),
        help="Use your own network instead: a frozen graph, SavedModel, .keras or .tflite file.",
    ),
    click.option(
        "--input-tensor", help="The tensor of your network that takes the photos, such as Mul:0."
    ),
    click.option("--bottleneck-tensor", help="The tensor of your network before its final layer."),
    click.option(
        "--input-size",
        type=image_size,
        metavar="HEIGHTxWIDTH",
        help="Size of your network's photos in pixels, such as 96x128; 224 means 224x224.",
    ),
    *_INPUT_SCALE,
)


_CLASSIFIER = (
    click.option("--input-layer", help="The operation of the graph that takes the photos."),
    click.option("--output-layer", help="The operation of the graph that gives the probabilities."),
    click.option(
        "--input-height",
        type=click.IntRange(1, 4096),
        help="Height of the graph's input in pixels.",
    ),
    click.option(
        "--input-width", type=click.IntRange(1, 4096), help="Width of the graph's input in pixels."
    ),
    *_INPUT_SCALE,
)


_IMAGE_DIR_HELP = (
    "The same as DIR: a folder of photos, a list of them (.csv or .parquet), tar files "
    "(photos-{000..099}.tar), or the URL of one of these, such as s3://bucket/photos."
)


labels_from_option = click.option(
    "--labels-from",
    type=click.IntRange(1, 9),
    help="Level of the folders that name the classes: 1 for those directly in the folder of "
    "photos, 2 for those one level below.  [default: 1, or 2 below folders of splits such as "
    "train/ and test/]",
)


cache_dir_option = click.option(
    "--cache-dir", type=FOLDER, help="Use this cache folder instead of the user's own."
)


class _FolderOrUrl(click.Path):
    """The type of a folder: a Path, or the text of a URL."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        """Return the URL as it is, or the folder as FOLDER does."""
        named = PHOTOS.convert(value, param, ctx)
        if isinstance(named, str):
            return named
        folder: Any = super().convert(named, param, ctx)
        return Path(folder)


bottleneck_dir_option = click.option(
    "--bottleneck-dir",
    type=_FolderOrUrl(file_okay=False),
    help="Keep the bottlenecks in this folder, or at this URL such as s3://bucket/folder, instead "
    "of the cache.",
)


def source_options(command: Command) -> Command:
    """Add the options for the photos, the backbone and the caches."""
    for option in (
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            help="Analyse the photos on this Ray cluster, such as auto or host:6379, instead of "
            "this machine.",
        ),
        click.option(
            "--executor",
            default=Source.executor,
            show_default=True,
            type=click.Choice(get_args(Executor)),
            help="What analyses the photos: threads of this machine, or Ray.",
        ),
        click.option(
            "--trunk",
            type=FILE,
            help="Compute the bottlenecks with this trunk.tflite of another run, in int8.",
        ),
        click.option(
            "--extract-precision",
            default=Source.extract_precision,
            show_default=True,
            type=click.Choice(get_args(ExtractPrecision)),
            help="Compute the bottlenecks with the network in float32, or quantized to int8; auto "
            "is float32.",
        ),
        click.option(
            "--extract-engine",
            default=Source.extract_engine,
            show_default=True,
            type=click.Choice(get_args(ExtractEngine)),
            help="Runtime that computes the bottlenecks; auto takes the faster one here.",
        ),
        bottleneck_dir_option,
        cache_dir_option,
        *reversed((*_PUBLISHED_NETWORK, *_OWN_NETWORK)),
        labels_from_option,
        click.option("--image-dir", "image_dir_option", type=PHOTOS, help=_IMAGE_DIR_HELP),
        click.argument("image_dir", required=False, metavar="DIR", type=PHOTOS),
    ):
        command = option(command)
    return command


def source(
    image_dir: Path | str | None,
    image_dir_option: Path | str | None,
    architecture: str | None,
    cache_dir: Path | None,
    bottleneck_dir: Path | str | None,
    extract_engine: Any,
    extract_precision: Any,
    trunk: Path | None,
    weights: Path | None,
    graph: Path | None,
    executor: Any,
    ray_address: str | None,
    **network: Any,
) -> Source:
    """Return the `Source` of `source_options`; raise WrongUse unless there is one folder."""
    from retrain import backbones

    folder = image_dir or image_dir_option
    if folder is None or (image_dir and image_dir_option):
        command = click.get_current_context().info_name
        raise WrongUse(f"name one folder of photos: retrain {command} DIR")
    if graph and (architecture or weights):
        raise WrongUse("--graph replaces --architecture and --weights: leave them out")
    name = architecture or DEFAULT_ARCHITECTURE
    if name not in backbones.NAMES:
        raise WrongUse(f"no backbone {name}: there is {', '.join(backbones.NAMES)}")
    cache = cache_dir or default_cache_dir()
    return Source(
        folder,
        name,
        cache,
        bottleneck_dir,
        extract_engine,
        weights,
        graph,
        extract_precision=extract_precision,
        trunk=trunk,
        executor=executor,
        ray_address=ray_address,
        **network,
    )


def own_network_options(command: Command) -> Command:
    """Add the options for a network of the user's own."""
    for option in reversed(_OWN_NETWORK):
        command = option(command)
    return command


def classifier_options(command: Command) -> Command:
    """Add the options of TensorFlow's label_image.py that describe a frozen graph."""
    for option in reversed(_CLASSIFIER):
        command = option(command)
    return command


def output_dir_option(command: Command) -> Command:
    """Add --output-dir, the folder of the run."""
    return click.option(
        "--output-dir",
        default=TrainSettings.output_dir,
        show_default=True,
        type=FOLDER,
        help="Folder of the run, which holds all of its files.",
    )(command)


def report_option(command: Command) -> Command:
    """Add --no-report, which sets `no_report`."""
    return click.option(
        "--no-report", is_flag=True, help="Do not write report.html, the page that shows the run."
    )(command)


def refresh_report(output_dir: Path, stages: "Progress") -> bool:
    """Write report.html of the run, quietly; return whether it is written.

    A reason not to is a warning: what came before succeeded. Memory that it has freed goes back to
    the system first, so that the two do not add up.
    """
    from retrain.progress import Progress
    from retrain.report.write_report import write_report

    release_free_memory()
    quiet = Progress(verbosity="ERROR")
    return _refresh(partial(write_report, progress=quiet), "report.html", output_dir, stages)


def refresh_card(output_dir: Path, stages: "Progress") -> bool:
    """Write the model card with the figures of today; return as `refresh_report` does."""
    from retrain.report.model_card import write_card

    return _refresh(write_card, "README.md", output_dir, stages)


def _refresh(
    write: Callable[["RunFolder"], object], name: str, output_dir: Path, stages: "Progress"
) -> bool:
    from retrain.run_folder import RunFolder

    try:
        write(RunFolder(output_dir))
    except (RetrainError, OSError) as error:
        reason = explain(error) if isinstance(error, OSError) else error
        stages.warn(f"{name} is not written: {reason}")
        return False
    return True


def progress(form: "Form" = "auto", verbosity: "Verbosity" = "INFO") -> "Progress":
    """Return a Progress whose texts name the options of the command that runs."""
    from retrain.progress import Progress

    command = click.get_current_context().command
    return Progress(form, verbosity, partial(name_options, command=command))


def json_option(command: Command) -> Command:
    """Add --json, which sets `as_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
    )(command)
