"""Hold every setting of a conversion, and its default; the recipes are a table."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from deploy.errors import WrongUse

Choice = Literal["fastest", "smallest"]
TARGETS = ("litert", "tflite-runtime==2.14", "edgetpu")
"""Names of the runtimes and chips that a model can be checked for."""

MAX_TIME_LIMIT_S = 86_400


@dataclass(frozen=True)
class Recipe:
    """A way to quantize a model.

    `weights` and `activations` are the types that the model stores and computes in; integer
    activations need calibration photos. A uint8 input takes a pixel's byte as it is. The first of
    `output_types` is the default. `golden_tolerance` is how far a golden's score may be from the
    score at conversion, on another runtime: between LiteRT 2.3 and tflite-runtime 2.14 on x86, 4e-7
    was measured with float arithmetic, with integers 0.07 for photos that the model is sure of and
    0.11 at most. With `mixed_precision` the first layer, and any layer of the user's choice, stays
    in float32. The model must run on `targets`. `choose` tries the recipes with `tried`.
    """

    name: str
    weights: Literal["float32", "float16", "int8"]
    activations: Literal["float32", "int16", "int8"]
    input_type: Literal["float32", "uint8"]
    output_types: tuple[str, ...]
    golden_tolerance: float
    mixed_precision: bool
    targets: tuple[str, ...]
    tried: bool

    @property
    def calibrated(self) -> bool:
        """Whether the converter needs photos to find the range of activations."""
        return self.activations != "float32"

    @property
    def takes_bytes(self) -> bool:
        """Whether the input is uint8, a pixel its own byte."""
        return self.input_type == "uint8"


_FLOAT = ("float32",)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("int8", "int8", "int8", "uint8", ("float32", "uint8"), 0.1, True, (), True),
        Recipe("dynamic", "int8", "float32", "float32", _FLOAT, 0.1, False, (), True),
        Recipe("float16", "float16", "float32", "float32", _FLOAT, 0.001, False, (), True),
        Recipe("float32", "float32", "float32", "float32", _FLOAT, 0.001, False, (), True),
        Recipe("int16x8", "int8", "int16", "float32", _FLOAT, 0.1, False, (), True),
        Recipe(
            "int8-edgetpu", "int8", "int8", "uint8", ("uint8",), 0.1, False, ("edgetpu",), False
        ),
    )
}
DEFAULT_RECIPE = "int8"
DEFAULT_OUTPUT_TYPE = "float32"


@dataclass(frozen=True)
class Quantization:
    """How to convert.

    `output_type` is float32 or uint8. Of int8 the first layer stays in float32, whose rounding
    costs most and whose speed matters least, and so do the layers `keep_float`, as
    `layers.explain` names them; what reads any of them is float32 too, or would round what it is
    given. `per_tensor_dense` gives dense layers one scale, which older runtimes need with
    `dynamic`. A conversion may take `seconds`, a day at most.
    """

    recipe: str = DEFAULT_RECIPE
    output_type: str = DEFAULT_OUTPUT_TYPE
    keep_float: tuple[str, ...] = ()
    per_tensor_dense: bool = False
    seconds: float = 1800

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise WrongUse(f"no recipe {self.recipe}: there is {', '.join(RECIPES)}")
        if self.output_type not in (DEFAULT_OUTPUT_TYPE, *self.kind.output_types):
            raise WrongUse(f"--output-type {self.output_type} is for int8, not for {self.recipe}")
        if self.keep_float and not self.kind.mixed_precision:
            raise WrongUse(f"--keep-float is for int8, not for {self.recipe}")
        if not 0 < self.seconds <= MAX_TIME_LIMIT_S:  # NaN is not either
            raise WrongUse(
                f"--time-limit {self.seconds:g}: above 0, up to {MAX_TIME_LIMIT_S:,} seconds"
            )

    @property
    def output(self) -> str:
        """The type of the output: that of the setting, or the only one that the recipe has."""
        types = self.kind.output_types
        return self.output_type if self.output_type in types else types[0]

    @property
    def kind(self) -> Recipe:
        """The record of the recipe."""
        return RECIPES[self.recipe]


@dataclass(frozen=True)
class Bounds:
    """How far a model may be from its graph.

    In points of accuracy, percent of photos with the same label, and the mean difference of a
    probability, of 0..1.
    """

    max_accuracy_drop: float = 1.0
    min_agreement: float = 90.0
    max_mean_difference: float = 0.05


@dataclass(frozen=True)
class About:
    """What the user tells of a model; `name` is made of backbone and classes if it is empty."""

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
    """How to convert: `calibration_images` are training photos.

    With `choose`, smallest or fastest, each of the recipes with `tried` is tried instead of one.
    `explain` measures the error of each layer of an int8 model. So many `goldens` are put into
    the file, with what is told `about` it. The model must run on `target`, and pass its goldens
    with each of the programs `target_python`, before it takes its place. Above 0, `reject_rate`
    is the share of photos of known classes that may be called unknown.
    """

    output_dir: Path = Path("retrained")
    quantization: Quantization = field(default_factory=Quantization)
    choose: Choice | None = None
    explain: bool = False
    calibration_images: int = 100
    target: str | None = None
    target_python: tuple[Path, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    goldens: int = 8
    reject_rate: float = 0.0
    seed: int = 0
    about: About = field(default_factory=About)

    def __post_init__(self) -> None:
        if self.target_python and not self.goldens:
            raise WrongUse("--target-python proves the goldens: --goldens 0 leaves it none")
        if self.explain and not self.explained.kind.takes_bytes:
            raise WrongUse(
                f"--explain is for int8 and int8-edgetpu, not for {self.explained.recipe}: "
                "leave out --explain"
            )
        if not 0 <= self.reject_rate < 1:  # NaN is not either
            raise WrongUse(f"--reject-rate {self.reject_rate:g}: of 0..1, below 1")
        if self.target is not None and self.target not in TARGETS:
            raise WrongUse(f"no target {self.target!r}: there are {', '.join(TARGETS)}")

    @property
    def explained(self) -> Quantization:
        """What `explain` tells of: int8 where recipes are chosen among."""
        return (
            replace(self.quantization, recipe=DEFAULT_RECIPE) if self.choose else self.quantization
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of all that the model must run on: the Edge TPU's recipe is for that too."""
        by_recipe = () if self.choose else self.quantization.kind.targets
        by_user = () if self.target is None else (self.target,)
        return tuple(dict.fromkeys((*by_user, *by_recipe)))
