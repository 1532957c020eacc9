"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deploy.errors import WrongUse

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

SOURCE = (
    "image_dir",
    "image_dir_option",
    "architecture",
    "cache_dir",
    "bottleneck_dir",
    "extract_engine",
)
"""What `source_options` give, and `source` takes."""


def source_options(command: Command) -> Command:
    """Add the photos, the backbone and the places of the caches."""
    for option in (
        click.option(
            "--extract-engine",
            default="auto",
            show_default=True,
            type=click.Choice(["auto", "tensorflow", "tflite"]),
            help="What runs the backbone; auto: the faster one here.",
        ),
        click.option(
            "--bottleneck-dir", type=FOLDER, help="Where bottlenecks are kept, if not in the cache."
        ),
        click.option("--cache-dir", type=FOLDER, help="Instead of the user's cache folder."),
        click.option(
            "--architecture",
            default="efficientnet_lite0",
            show_default=True,
            help="The backbone.",
        ),
        click.option("--image-dir", "image_dir_option", type=FOLDER, help="The same as DIR."),
        click.argument("image_dir", required=False, metavar="DIR", type=FOLDER),
    ):
        command = option(command)
    return command


def source(
    image_dir: Path | None,
    image_dir_option: Path | None,
    architecture: str,
    cache_dir: Path | None,
    bottleneck_dir: Path | None,
    extract_engine: Any,
) -> Any:
    """Return the `Source` that `source_options` describe; raise WrongUse without one folder."""
    from retrain import backbones
    from retrain.config import Source, default_cache_dir

    folder = image_dir or image_dir_option
    if folder is None or (image_dir and image_dir_option):
        raise WrongUse("name one folder of photos: retrain train DIR")
    if architecture not in backbones.NAMES:
        raise WrongUse(f"no backbone {architecture}: there is {', '.join(backbones.NAMES)}")
    cache_dir = cache_dir or default_cache_dir()
    return Source(folder, architecture, cache_dir, bottleneck_dir, extract_engine)


def output_dir_option(command: Command) -> Command:
    """Add the folder of a run."""
    return click.option(
        "--output-dir",
        default=Path("retrained"),
        show_default=True,
        type=FOLDER,
        help="The folder of the run.",
    )(command)


def json_option(command: Command) -> Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)
