"""`retrain convert`: the TFLite model."""

import json
from pathlib import Path

import click

from retrain.cli.options import json_option, output_dir_option


@click.command()
@output_dir_option
@click.option(
    "--calibration-images",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="Training photos that set the ranges of activations.",
)
@click.option(
    "--max-accuracy-drop",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Points of test accuracy; more than that is exit code 4.",
)
@click.option(
    "--goldens",
    default=8,
    show_default=True,
    type=click.IntRange(0),
    help="Test photos put into the file, small, to check a device by.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--model-name", default="", help="For apps; else it is made of the backbone's.")
@click.option("--author", default="", help="Who made the model, for apps to show.")
@click.option("--license", "licence", default="", help="The model's licence, for apps to show.")
@json_option
def convert(
    output_dir: Path,
    calibration_images: int,
    max_accuracy_drop: float,
    goldens: int,
    seed: int,
    model_name: str,
    author: str,
    licence: str,
    as_json: bool,
) -> None:
    """Make model.tflite of the trained graph: int8, uint8 in, scored on the test photos."""
    from retrain.converter import ConvertConfig
    from retrain.converter import convert as run
    from retrain.model_metadata import About
    from retrain.progress import Progress
    from retrain.scores import Accuracy

    config = ConvertConfig(
        output_dir,
        calibration_images,
        max_accuracy_drop,
        seed,
        goldens,
        About(model_name, author, licence),
    )
    result = run(config, Progress())
    if as_json:
        click.echo(json.dumps(result))
        return
    for name in ("graph", "model"):
        found = Accuracy(result[name]["right"], result[name]["total"])
        size = result["bytes"][name] / 1e6
        click.echo(f"{name}: test accuracy {found}, {size:.1f} MB")
    click.echo(f"the same best label on {result['agreement']:.1%} of the test photos")
    click.echo(f"Written to {output_dir}: model.tflite, labels.txt, conversion.json")
