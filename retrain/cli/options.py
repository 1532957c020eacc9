"""Options that several commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from deploy.errors import WrongUse
from retrain.settings.training import (
    DEFAULT_ARCHITECTURE,
    ExtractEngine,
    Source,
    TrainSettings,
    default_cache_dir,
)

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def image_size(text: str) -> int | tuple[int, int]:
    """Return height and width of `96x128`, one number for a square; raise BadParameter."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(re.fullmatch("[0-9]{1,4}", side) for side in sides):
        raise click.BadParameter(f"{text!r} is not height x width, such as 96x128, or one number")
    numbers = [int(side) for side in sides]
    if not all(1 <= side <= 4096 for side in numbers):
        raise click.BadParameter(f"{text!r} is not within 1..4096 pixels")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


_BACKBONE = (
    click.option(
        "--architecture",
        help=f"The backbone: see `retrain backbones`.  [default: {DEFAULT_ARCHITECTURE}]",
    ),
    click.option("--weights", type=FILE, help="A file of the backbone's weights."),
    click.option(
        "--graph",
        type=click.Path(path_type=Path, exists=True),
        help="A network of your own instead: frozen graph, SavedModel, .keras, .tflite.",
    ),
    click.option("--input-tensor", help="Its tensor that takes the photos, such as Mul:0."),
    click.option("--bottleneck-tensor", help="Its tensor before the final layer."),
    click.option(
        "--input-size",
        type=image_size,
        metavar="HEIGHTxWIDTH",
        help="Its photos' pixels, such as 96x128; 224 is a square.",
    ),
    click.option(
        "--input-mean", type=click.FloatRange(0, 255), help="What it has subtracted from 0..255."
    ),
    click.option(
        "--input-std", type=click.FloatRange(0, min_open=True), help="What that is divided by."
    ),
)


_CLASSIFIER = (
    click.option("--input-layer", help="The graph's operation that takes photos."),
    click.option("--output-layer", help="The graph's operation that gives probabilities."),
    click.option("--input-height", type=click.IntRange(1, 4096), help="Its photos', in pixels."),
    click.option("--input-width", type=click.IntRange(1, 4096), help="Its photos', in pixels."),
    click.option(
        "--input-mean", type=click.FloatRange(0, 255), help="What it has subtracted from 0..255."
    ),
    click.option(
        "--input-std", type=click.FloatRange(0, min_open=True), help="What that is divided by."
    ),
)


labels_from_option = click.option(
    "--labels-from",
    type=click.IntRange(1, 9),
    help="Level of the folders that are the classes: 1 is directly in the folder of photos, 2 one "
    "below.  [default: 1, or 2 below folders of splits]",
)


def source_options(command: Command) -> Command:
    """Add the photos, the backbone and the places of the caches."""
    for option in (
        click.option(
            "--extract-engine",
            default=Source.extract_engine,
            show_default=True,
            type=click.Choice(get_args(ExtractEngine)),
            help="What runs the backbone; auto: the faster one here.",
        ),
        click.option(
            "--bottleneck-dir", type=FOLDER, help="Where bottlenecks are kept, if not in the cache."
        ),
        click.option("--cache-dir", type=FOLDER, help="Instead of the user's cache folder."),
        *reversed(_BACKBONE),
        labels_from_option,
        click.option("--image-dir", "image_dir_option", type=FOLDER, help="The same as DIR."),
        click.argument("image_dir", required=False, metavar="DIR", type=FOLDER),
    ):
        command = option(command)
    return command


def source(
    image_dir: Path | None,
    image_dir_option: Path | None,
    architecture: str | None,
    cache_dir: Path | None,
    bottleneck_dir: Path | None,
    extract_engine: Any,
    weights: Path | None,
    graph: Path | None,
    **own: Any,
) -> Source:
    """Return the `Source` that `source_options` describe; raise WrongUse without one folder."""
    from retrain import backbones

    folder = image_dir or image_dir_option
    if folder is None or (image_dir and image_dir_option):
        raise WrongUse("name one folder of photos: retrain train DIR")
    if graph and (architecture or weights):
        raise WrongUse("--graph is instead of --architecture and --weights")
    name = architecture or DEFAULT_ARCHITECTURE
    if name not in backbones.NAMES:
        raise WrongUse(f"no backbone {name}: there is {', '.join(backbones.NAMES)}")
    cache = cache_dir or default_cache_dir()
    return Source(folder, name, cache, bottleneck_dir, extract_engine, weights, graph, **own)


def classifier_options(command: Command) -> Command:
    """Add what TensorFlow's label_image.py takes to describe a frozen graph."""
    for option in reversed(_CLASSIFIER):
        command = option(command)
    return command


def output_dir_option(command: Command) -> Command:
    """Add the folder of a run."""
    return click.option(
        "--output-dir",
        default=TrainSettings.output_dir,
        show_default=True,
        type=FOLDER,
        help="The folder of the run.",
    )(command)


def json_option(command: Command) -> Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)
