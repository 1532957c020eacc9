"""`retrain convert`: make the TFLite model of a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.cli.numbers import Number
from deploy.cli.typed import typed
from deploy.errors import WrongUse
from deploy.system.counts import with_noun
from deploy.system.terminal import say
from deploy.untrusted_files import MAX_GOLDENS
from retrain.cli.options import (
    FILE,
    json_option,
    output_dir_option,
    progress,
    refresh_card,
    refresh_report,
    report_option,
)
from retrain.settings.conversion import (
    DEFAULT_OUTPUT_TYPE,
    DEFAULT_RECIPE,
    RECIPES,
    TARGETS,
    About,
    Bounds,
    Choice,
    ConvertSettings,
    Quantization,
    list_recipes,
    require_output_type,
)

if TYPE_CHECKING:
    from retrain.conversion.result import ConversionResult


_GROUPS: Groups = {
    "Model": ("--quantize", "--output-type", "--choose", "--reject-rate"),
    "What is accepted": ("--max-accuracy-drop", "--min-agreement", "--max-mean-difference"),
    "Where it must run": ("--target", "--target-python"),
    "In the file": ("--goldens", "--model-name", "--author", "--license"),
    "General": ("--output-dir", "--no-report", *GENERAL["General"]),
    "Rarely used": (
        "--explain",
        "--keep-float",
        "--calibration-images",
        "--time-limit",
        "--seed",
    ),
}


@click.command(cls=GroupedCommand, groups=_GROUPS)
@output_dir_option
@click.option(
    "--quantize",
    "recipe",
    type=click.Choice(tuple(RECIPES)),
    help=f"Recipe: the types that the model stores and computes in.  [default: {DEFAULT_RECIPE}]",
)
@click.option(
    "--output-type",
    default=DEFAULT_OUTPUT_TYPE,
    show_default=True,
    type=click.Choice(
        tuple(dict.fromkeys(name for recipe in RECIPES.values() for name in recipe.output_types))
    ),
    help="Type of the probabilities; uint8 is for "
    f"{list_recipes(lambda recipe: 'uint8' in recipe.output_types)}.",
)
@click.option(
    "--choose",
    is_flag=False,
    flag_value="fastest",
    type=click.Choice(get_args(Choice)),
    help="Try the recipes, and take the best model within the bounds.  [fastest without a value]",
)
@click.option(
    "--target",
    metavar="RUNTIME",
    help=f"Refuse a model that RUNTIME cannot run: {', '.join(TARGETS)}.",
)
@click.option(
    "--target-python",
    multiple=True,
    type=FILE,
    help="Python with the target's runtime, to run the goldens. May be given several times.",
)
@click.option(
    "--keep-float",
    multiple=True,
    metavar="LAYER",
    help="Keep this layer in float32. May be given several times.",
)
@click.option("--explain", is_flag=True, help="Measure the error of each int8 layer.")
@click.option(
    "--calibration-images",
    default=ConvertSettings.calibration_images,
    show_default=True,
    type=click.IntRange(1),
    help="Number of training photos that set the ranges of activations.",
)
@click.option(
    "--max-accuracy-drop",
    default=Bounds.max_accuracy_drop,
    show_default=True,
    type=Number(0),
    help="Points of test accuracy that the model may lose; more is exit code 4.",
)
@click.option(
    "--min-agreement",
    default=Bounds.min_agreement,
    show_default=True,
    type=Number(0, 100),
    help="Percent of test photos with the graph's best label; less is exit code 4.",
)
@click.option(
    "--max-mean-difference",
    default=Bounds.max_mean_difference,
    show_default=True,
    type=Number(0, 1),
    help="Mean difference of probabilities to the graph's; more is exit code 4.",
)
@click.option(
    "--time-limit",
    default=Quantization.time_limit,
    show_default=True,
    type=Number(0, min_open=True),
    help="Seconds that one conversion may take.",
)
@click.option(
    "--goldens",
    default=ConvertSettings.goldens,
    show_default=True,
    type=click.IntRange(0, MAX_GOLDENS),
    help="Number of small test photos in the file, which check a device.",
)
@click.option(
    "--reject-rate",
    default=ConvertSettings.reject_rate,
    show_default=True,
    type=Number(0, 1, max_open=True),
    help="Share of photos of known classes that may be called unknown; 0 is off.",
)
@click.option(
    "--model-name",
    default=About.name,
    help="Name that apps show.  [default: derived from the backbone]",
)
@click.option("--author", default=About.author, help="Author that apps show.")
@click.option("--license", "licence", default=About.licence, help="Licence that apps show.")
@click.option(
    "--seed",
    default=ConvertSettings.seed,
    show_default=True,
    type=click.IntRange(0),
    help="Seed of the choice of calibration photos and goldens.",
)
@report_option
@json_option
def convert(
    output_dir: Path,
    recipe: str | None,
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
    no_report: bool,
    as_json: bool,
) -> None:
    """Make model.tflite from the trained graph, and score it on the test photos."""
    from retrain.conversion.convert import convert as run

    if choose and recipe:
        raise WrongUse("`choose` tries every recipe: leave out `recipe`")
    if recipe and typed(["output_type"]):
        require_output_type(recipe, output_type)  # of the settings, the default fits each recipe
    settings = ConvertSettings(
        output_dir,
        Quantization(recipe or DEFAULT_RECIPE, output_type, keep_float, time_limit=time_limit),
        choose=choose,
        explain=explain,
        calibration_images=calibration_images,
        target=target,
        target_python=target_python,
        bounds=Bounds(max_accuracy_drop, min_agreement, max_mean_difference),
        goldens=goldens,
        reject_rate=reject_rate,
        seed=seed,
        about=About(model_name, author, licence),
    )
    stages = progress()
    result = run(settings, stages)
    has_card = refresh_card(output_dir, stages)
    if not no_report:
        refresh_report(output_dir, stages)
    if as_json:
        say(json.dumps(result.to_json()))
    else:
        names = "model.tflite, labels.txt, conversion.json" + ", README.md" * has_card
        say(*_lines(result), f"Written to {output_dir}: {names}")


def _lines(result: "ConversionResult") -> list[str]:
    """Return the lines that show a result to a person."""
    from retrain.data.remote_path import photo_path

    parity, rejection = result.parity, result.rejection
    photo = photo_path(parity.worst[0].photo)
    if photo.is_relative_to(Path.cwd()):
        photo = photo.relative_to(Path.cwd())
    lines = [
        f"graph: test accuracy {parity.graph}, {result.graph_bytes / 1e6:.1f} MB",
        f"model: test accuracy {parity.model}, {result.model_bytes / 1e6:.1f} MB",
        f"the same best label on {parity.agreement:.1%} of the test photos",
        f"probabilities differ by {parity.mean_difference:.4f} in the mean, by "
        f"{parity.max_difference:.3f} at most, in {photo}",
    ]
    if rejection:
        lines.append(
            f"unknown below a score of {rejection.threshold:.3f}: {rejection.rejected} of "
            f"{with_noun(rejection.photos, 'validation photo')}, {rejection.test_rejected} of "
            f"{with_noun(rejection.test_photos or 0, 'test photo')}"
        )
    return lines
