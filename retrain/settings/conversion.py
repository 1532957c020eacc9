"""Hold every setting of a conversion, and its default; the recipes are a table."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from deploy.errors import WrongUse
from deploy.run_command import DEFAULT_RUN_FOLDER
from deploy.untrusted_files import MAX_GOLDENS
from retrain.settings.limits import require_at_least

Choice = Literal["fastest", "smallest"]
TARGETS = ("litert", "tflite-runtime==2.14", "edgetpu")
"""Names of the runtimes and chips that a model can be checked for."""

MAX_TIME_LIMIT_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A way to quantize a model. A new recipe is a new row of RECIPES, and nothing else.

    `weights` and `activations` are the types that the model stores and computes in. With a uint8
    input a pixel is its own byte. The first of `output_types` is the default. `golden_tolerance`
    is how far a golden's score on another runtime may be from its score at conversion. Between
    LiteRT 2.3 and tflite-runtime 2.14 on x86, scores differed by 4e-7 with float arithmetic; with
    integers by 0.07 for photos that the model is sure of, and by 0.11 at most. With
    `mixed_precision` the first layer, and any layer of the user's choice, stays in float32. The
    model must run on `targets`. `choose` tries only the recipes with `tried_by_choose`.
    """

    name: str
    weights: Literal["float32", "float16", "int8"]
    activations: Literal["float32", "int16", "int8"] = "float32"
    input_type: Literal["float32", "uint8"] = "float32"
    output_types: tuple[Literal["float32", "uint8"], ...] = ("float32",)
    golden_tolerance: float
    mixed_precision: bool = False
    targets: tuple[str, ...] = ()
    tried_by_choose: bool = True

    @property
    def needs_calibration(self) -> bool:
        """Whether the converter needs photos, to find the range of each activation."""
        return self.activations != "float32"

    @property
    def explainable(self) -> bool:
        """Whether TensorFlow's QuantizationDebugger can measure the error of each layer."""
        return self.activations == "int8"

    @property
    def has_uint8_input(self) -> bool:
        """Whether the input is uint8, and a pixel its own byte."""
        return self.input_type == "uint8"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="int8",
            weights="int8",
            activations="int8",
            input_type="uint8",
            output_types=("float32", "uint8"),
            golden_tolerance=0.1,
            mixed_precision=True,
        ),
        Recipe(name="dynamic", weights="int8", golden_tolerance=0.1),
        Recipe(name="float16", weights="float16", golden_tolerance=0.001),
        Recipe(name="float32", weights="float32", golden_tolerance=0.001),
        Recipe(name="int16x8", weights="int8", activations="int16", golden_tolerance=0.1),
        Recipe(
            name="int8-edgetpu",
            weights="int8",
            activations="int8",
            input_type="uint8",
            output_types=("uint8",),
            golden_tolerance=0.1,
            targets=("edgetpu",),
            tried_by_choose=False,
        ),
    )
}
DEFAULT_RECIPE = "int8"
TRUNK_RECIPE = "int8"
"""The recipe of the trunk that analyses photos, which is the one in the model file."""
DEFAULT_OUTPUT_TYPE = "float32"


def list_recipes(condition: Callable[[Recipe], bool], conjunction: str = "and") -> str:
    """Return the names of the recipes that meet `condition`, for a message: "int8 and dynamic"."""
    *names, last = [recipe.name for recipe in RECIPES.values() if condition(recipe)] or ["none"]
    return f"{', '.join(names)} {conjunction} {last}" if names else last


def require_output_type(recipe: str, output_type: str) -> None:
    """Raise WrongUse if models of `recipe` cannot have the output type."""
    if output_type not in RECIPES[recipe].output_types:
        recipes = list_recipes(lambda other: output_type in other.output_types)
        raise WrongUse(
            f"`output_type` {output_type} is for {recipes}, not for {recipe}: leave it out"
        )


@dataclass(frozen=True)
class Quantization:
    """How to convert.

    `output_type` is float32 or uint8; where a recipe has no float32, that default means uint8. With
    a recipe of mixed precision the first layer stays in float32: its rounding costs the most
    accuracy, and it takes little time. So do the layers `keep_float`, by the names that
    `layer_errors.explain` returns. A layer that reads one of these is float32 too, because an int8
    layer would round its input. `per_tensor_dense` gives each dense layer one scale, which older
    runtimes need with int8 weights and float32 activations. A conversion may take `time_limit`
    seconds, a day at most.
    """

    recipe: str = DEFAULT_RECIPE
    output_type: str = DEFAULT_OUTPUT_TYPE
    keep_float: tuple[str, ...] = ()
    per_tensor_dense: bool = False
    time_limit: float = 1800

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise WrongUse(f"no recipe {self.recipe}: there are {', '.join(RECIPES)}")
        if self.output_type != DEFAULT_OUTPUT_TYPE:
            require_output_type(self.recipe, self.output_type)
        if self.keep_float and not self.record.mixed_precision:
            recipes = list_recipes(lambda recipe: recipe.mixed_precision)
            raise WrongUse(f"`keep_float` is for {recipes}, not for {self.recipe}")
        if not 0 < self.time_limit <= MAX_TIME_LIMIT_S:  # refuses NaN too
            raise WrongUse(
                f"`time_limit` {self.time_limit:g}: above 0, up to {MAX_TIME_LIMIT_S:,} seconds"
            )

    @property
    def output(self) -> str:
        """The type of the output: `output_type` if the recipe has it, else the recipe's first."""
        types = self.record.output_types
        return self.output_type if self.output_type in types else types[0]

    @property
    def record(self) -> Recipe:
        """The recipe's row in RECIPES."""
        return RECIPES[self.recipe]

    def with_recipe(self, recipe: Recipe) -> "Quantization":
        """Return these settings for `recipe`, without those that it does not have."""
        return replace(
            self,
            recipe=recipe.name,
            output_type=self.output_type
            if self.output_type in recipe.output_types
            else DEFAULT_OUTPUT_TYPE,
            keep_float=self.keep_float if recipe.mixed_precision else (),
        )


@dataclass(frozen=True)
class Bounds:
    """How far a model may be from its graph.

    `max_accuracy_drop` is in points of test accuracy, `min_agreement` in percent of test photos
    with the same best label, `max_mean_difference` the mean difference of a probability, of 0..1.
    """

    max_accuracy_drop: float = 1.0
    min_agreement: float = 90.0
    max_mean_difference: float = 0.05


@dataclass(frozen=True)
class About:
    """What an app shows of a model; an empty `name` is derived from backbone and classes."""

    name: str = ""
    author: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for text in (self.name, self.author, self.licence):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise WrongUse(f"{text!r} is not text in UTF-8") from error


@dataclass(frozen=True)
class ConvertSettings:
    """How to convert a run's graph."""

    output_dir: Path = DEFAULT_RUN_FOLDER
    quantization: Quantization = field(default_factory=Quantization)
    choose: Choice | None = None
    """Try every recipe with `tried_by_choose`, and take the fastest or smallest model that is
    within `bounds`."""
    explain: bool = False
    """Measure the error of each int8 layer."""
    calibration_images: int = 100
    """Training photos that set the ranges of activations."""
    target: str | None = None
    """The system that the model must run on."""
    target_python: tuple[Path, ...] = ()
    """Programs: with each of them the model must pass its goldens."""
    bounds: Bounds = field(default_factory=Bounds)
    goldens: int = 8
    """Test photos that the file holds with their scores."""
    reject_rate: float = 0.0
    """The share, of 0..1, of photos of known classes that may be called unknown; 0 calls none."""
    seed: int = 0
    about: About = field(default_factory=About)
    """What the file says about itself."""

    def __post_init__(self) -> None:
        require_at_least(self, calibration_images=1, seed=0)
        if not 0 <= self.goldens <= MAX_GOLDENS:
            raise WrongUse(f"`goldens` {self.goldens}: 0 to {MAX_GOLDENS}")
        if self.target_python and not self.goldens:
            raise WrongUse("`target_python` runs the goldens: `goldens` 0 leaves none to run")
        if self.explain and not self.explained_quantization.record.explainable:
            recipes = list_recipes(lambda recipe: recipe.explainable)
            raise WrongUse(
                f"`explain` is for {recipes}, not for {self.explained_quantization.recipe}: "
                "leave out `explain`"
            )
        if not 0 <= self.reject_rate < 1:  # refuses NaN too
            raise WrongUse(f"`reject_rate` {self.reject_rate:g}: of 0..1, below 1")
        if self.target is not None and self.target not in TARGETS:
            raise WrongUse(f"no `target` {self.target!r}: there are {', '.join(TARGETS)}")

    @property
    def explained_quantization(self) -> Quantization:
        """The quantization that `explain` measures: that of the default recipe with `choose`."""
        if self.choose:
            return replace(self.quantization, recipe=DEFAULT_RECIPE)
        return self.quantization
