"""`retrain convert`: the TFLite model."""

import json
from pathlib import Path

import click

from deploy.errors import WrongUse
from deploy.system.terminal import say
from retrain.cli.options import FILE, json_option, output_dir_option, progress
from retrain.settings.conversion import (
    DEFAULT_OUTPUT_TYPE,
    DEFAULT_RECIPE,
    RECIPES,
    About,
    Bounds,
    Choice,
    ConvertSettings,
    Quantization,
)


@click.command()
@output_dir_option
@click.option(
    "--quantize",
    type=click.Choice(tuple(RECIPES)),
    help=f"What the model stores and computes in.  [default: {DEFAULT_RECIPE}]",
)
@click.option(
    "--output-type",
    default=DEFAULT_OUTPUT_TYPE,
    show_default=True,
    type=click.Choice(["float32", "uint8"]),
    help="The probabilities of an int8 model.",
)
@click.option(
    "--choose",
    is_flag=False,
    flag_value="fastest",
    type=click.Choice(["fastest", "smallest"]),
    help="Try every recipe, and take the best within bounds.  [fastest if nothing is said]",
)
@click.option(
    "--target",
    metavar="RUNTIME",
    help="Refuse what it cannot run: litert, tflite-runtime==2.14 or edgetpu.",
)
@click.option(
    "--target-python",
    multiple=True,
    type=FILE,
    help="A Python with the target's runtime, to prove the goldens. Repeatable.",
)
@click.option(
    "--keep-float", multiple=True, metavar="LAYER", help="Leave it in float32. Repeatable."
)
@click.option("--explain", is_flag=True, help="Measure the error of each layer of an int8 model.")
@click.option(
    "--calibration-images",
    default=ConvertSettings.calibration_images,
    show_default=True,
    type=click.IntRange(1),
    help="Training photos that set the ranges of activations.",
)
@click.option(
    "--max-accuracy-drop",
    default=Bounds.max_accuracy_drop,
    show_default=True,
    type=click.FloatRange(0),
    help="Points of test accuracy; more than that is exit code 4.",
)
@click.option(
    "--min-agreement",
    default=Bounds.min_agreement,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="Percent of test photos with the graph's label; less is exit code 4.",
)
@click.option(
    "--max-mean-difference",
    default=Bounds.max_mean_difference,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Of the probabilities, model to graph; more is exit code 4.",
)
@click.option(
    "--time-limit",
    default=Quantization.seconds,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that one conversion may take.",
)
@click.option(
    "--goldens",
    default=ConvertSettings.goldens,
    show_default=True,
    type=click.IntRange(0),
    help="Test photos put into the file, small, to check a device by.",
)
@click.option(
    "--reject-rate",
    default=ConvertSettings.reject_rate,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of photos of known classes that may be called unknown; 0 is off.",
)
@click.option(
    "--model-name", default=About.name, help="For apps; else it is made of the backbone's."
)
@click.option("--author", default=About.author, help="Who made the model, for apps to show.")
@click.option(
    "--license", "licence", default=About.licence, help="The model's licence, for apps to show."
)
@click.option("--seed", default=ConvertSettings.seed, show_default=True, type=click.IntRange(0))
@json_option
def convert(
    output_dir: Path,
    quantize: str | None,
    output_type: str,
    choose: Choice | None,
    target: str | None,
    target_python: tuple[Path, ...],
    keep_float: tuple[str, ...],
    explain: bool,
    calibration_images: int,
    max_accuracy_drop: float,
    min_agreement: float,
    max_mean_difference: float,
    time_limit: float,
    goldens: int,
    reject_rate: float,
    seed: int,
    model_name: str,
    author: str,
    licence: str,
    as_json: bool,
) -> None:
    """Make model.tflite of the trained graph, scored on the test photos."""
    from retrain.conversion.convert import convert as run
    from retrain.metrics import Accuracy

    if choose and quantize:
        raise WrongUse("--choose tries every recipe: leave out --quantize")
    how = Quantization(quantize or DEFAULT_RECIPE, output_type, keep_float, seconds=time_limit)
    bounds = Bounds(max_accuracy_drop, min_agreement, max_mean_difference)
    about = About(model_name, author, licence)
    config = ConvertSettings(
        output_dir,
        how,
        choose=choose,
        explain=explain,
        calibration_images=calibration_images,
        target=target,
        target_python=target_python,
        bounds=bounds,
        goldens=goldens,
        reject_rate=reject_rate,
        seed=seed,
        about=about,
    )
    result = run(config, progress())
    if as_json:
        say(json.dumps(result))
        return
    for name in ("graph", "model"):
        accuracy = Accuracy(result[name]["right"], result[name]["total"])
        size = result["bytes"][name] / 1e6
        say(f"{name}: test accuracy {accuracy}, {size:.1f} MB")
    say(f"the same best label on {result['agreement']:.1%} of the test photos")
    worst = Path(result["worst"][0]["photo"])
    if worst.is_relative_to(Path.cwd()):
        worst = worst.relative_to(Path.cwd())
    say(
        f"probabilities differ by {result['mean_difference']:.4f} in the mean, by "
        f"{result['max_difference']:.3f} at most, in {worst}"
    )
    if found := result["rejection"]:
        say(
            f"unknown below a score of {found['threshold']:.3f}: {found['rejected']} of "
            f"{found['photos']} validation photos"
        )
    say(f"Written to {output_dir}: model.tflite, labels.txt, conversion.json")
