"""Hold every setting of a training run, and its default."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.errors import WrongUse
from deploy.user_files import contains

DEFAULT_ARCHITECTURE = "efficientnet_lite0"
TAKEN_OPERATION_NAMES = ("input", "bottleneck", "logits")
"""Names of operations in every graph that retrain writes."""

ClassWeight = Literal["none", "balanced"]
ExtractEngine = Literal["auto", "tensorflow", "tflite"]
Optimizer = Literal["standardized", "sgd"]

WEIGHT_DECAY: dict[Optimizer, float] = {"standardized": 0.1, "sgd": 0.0}
_OPERATION = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
"""What TensorFlow takes as the name of an operation."""


def default_cache_dir() -> Path:
    """Return the user's cache folder, which all runs share."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("retrain"))


@dataclass(frozen=True)
class Source:
    """The photos, the backbone, and where bottlenecks are kept; in the cache if that is None.

    `weights` are a file of the backbone's; None are ImageNet's. `graph` is the file of a network
    of the user's own, instead of `architecture`; what is None of its tensors' names, height
    and width in pixels (one number for a square), mean and std of 0..255 is as
    `backbones.custom.load` says. `labels_from` is the level of the folders that are the classes, 1
    for those directly in `image_dir`; None is as `layout.read` says.
    """

    image_dir: Path
    architecture: str = DEFAULT_ARCHITECTURE
    cache_dir: Path = field(default_factory=default_cache_dir)
    bottleneck_dir: Path | None = None
    extract_engine: ExtractEngine = "auto"
    weights: Path | None = None
    graph: Path | None = None
    input_tensor: str | None = None
    bottleneck_tensor: str | None = None
    input_size: int | tuple[int, int] | None = None
    input_mean: float | None = None
    input_std: float | None = None
    labels_from: int | None = None

    def __post_init__(self) -> None:
        own = ("input_tensor", "bottleneck_tensor", "input_size", "input_mean", "input_std")
        given = [name for name in own if getattr(self, name) is not None]
        if given and self.graph is None:
            raise WrongUse(f"--{given[0].replace('_', '-')} is for a network named with --graph")
        self.require_outside("--cache-dir", self.cache_dir)
        self.require_outside("--bottleneck-dir", self.bottleneck_dir)

    def require_outside(self, option: str, folder: Path | None) -> None:
        """Raise WrongUse if `folder` would be a class among the photos; a hidden one is none."""
        if folder and contains(self.image_dir, folder):
            raise WrongUse(
                f"{option} {folder}: that is in the folder of photos, and would be taken for a "
                f"class: name one outside it, such as {option} ../{folder.name or 'retrained'}"
            )

    @property
    def bottlenecks(self) -> Path:
        """The folder that holds a cache for each fingerprint."""
        return self.bottleneck_dir or self.cache_dir / "bottlenecks"

    @property
    def pictures(self) -> Path:
        """The folder that holds the small picture of each photo, to find its copies by."""
        return self.cache_dir / "pictures"

    @property
    def engines(self) -> Path:
        """The folder that holds which engine was faster for each backbone."""
        return self.cache_dir / "engines"


@dataclass(frozen=True)
class SplitSettings:
    """Shares in percent, and a salt: another salt gives another, independent split."""

    testing_percentage: float = 10.0
    validation_percentage: float = 10.0
    salt: str = ""

    def __post_init__(self) -> None:
        # Said so that NaN, which compares false, is refused as well.
        if not (self.testing_percentage > 0 and self.validation_percentage > 0):
            raise WrongUse("testing and validation each need a share above 0%")
        if not self.testing_percentage + self.validation_percentage < 100:
            raise WrongUse("testing and validation take 100% or more: nothing is left to train on")


@dataclass(frozen=True)
class HeadSettings:
    """How to train; steps, rate and sizes are those of TensorFlow's image_retraining/retrain.py.

    `optimizer` "sgd" is the classic's: bottlenecks as they are, one `learning_rate`.
    "standardized" is SGD on bottlenecks of mean 0 and deviation 1, the rate falling to zero along
    a cosine; `weight_decay` None is 0.1 with it, 0 with "sgd". A batch draws a class, then a photo
    of it, so that a rare class is learned as well as any. With `class_weight` "balanced", scores
    are probabilities for classes that are equally frequent; with "none" the bias takes in how
    frequent each is in the folder. -1 as `validation_batch_size` is the whole validation set.
    `early_stop` is after how many twentieths of the run without a lower cross entropy on the
    validation set to stop; 0 is never.
    """

    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    train_batch_size: int = 100
    validation_batch_size: int = 100
    eval_step_interval: int = 10
    intermediate_store_frequency: int = 0
    optimizer: Optimizer = "standardized"
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    class_weight: ClassWeight = "none"
    early_stop: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise WrongUse(f"--learning-rate {self.learning_rate} is not a number above 0")
        # Said so that NaN, which compares false, is refused as well.
        if not (self.weight_decay is None or self.weight_decay >= 0):
            raise WrongUse(f"--weight-decay {self.weight_decay} is not a number of 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise WrongUse(f"--label-smoothing {self.label_smoothing} is not within 0..1")
        if self.validation_batch_size == 0:
            raise WrongUse("--validation-batch-size 0 validates nothing: -1 is the whole set")

    @property
    def decay(self) -> float:
        """The weight decay that is meant."""
        return WEIGHT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay


@dataclass(frozen=True)
class Distortion:
    """What is done to a photo at random; the three numbers are percentages of 0..100.

    `random_crop` is the margin around the box that is cropped at random, `random_scale` how much
    larger the photo may get, `random_brightness` how far a pixel may be multiplied up or down.
    Raises WrongUse for a percentage out of its range.
    """

    flip_left_right: bool = False
    random_crop: int = 0
    random_scale: int = 0
    random_brightness: int = 0

    def __post_init__(self) -> None:
        for option, percentage in (
            ("--random-crop", self.random_crop),
            ("--random-scale", self.random_scale),
            ("--random-brightness", self.random_brightness),
        ):
            if not 0 <= percentage <= 100:
                raise WrongUse(
                    f"{option} {percentage} is not within 0..100: give a percentage, or 0 for none"
                )

    @property
    def active(self) -> bool:
        """Whether any option distorts anything."""
        return bool(
            self.flip_left_right or self.random_crop or self.random_scale or self.random_brightness
        )

    @property
    def most_enlarged(self) -> float:
        """By how much a photo is enlarged at most, before a box is cropped out of it."""
        return (1 + self.random_crop / 100) * (1 + self.random_scale / 100)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what `train` makes, and where it goes.

    `views` distorted ones of each training photo are made if `distortion` is active. Paths that
    are None are in `output_dir`, or not written: the SavedModel, and the intermediate graphs,
    which `head.intermediate_store_frequency` asks for. -1 as `test_batch_size` is the whole test
    set. With `resume` a run that was killed goes on.
    """

    source: Source
    output_dir: Path = Path("retrained")
    split: SplitSettings = field(default_factory=SplitSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    distortion: Distortion = field(default_factory=Distortion)
    views: int = 4
    test_batch_size: int = -1
    final_tensor_name: str = "final_result"
    print_misclassified_test_images: bool = False
    resume: bool = False
    output_graph: Path | None = None
    output_labels: Path | None = None
    summaries_dir: Path | None = None
    checkpoint_path: Path | None = None
    saved_model_dir: Path | None = None
    intermediate_output_graphs_dir: Path | None = None

    def __post_init__(self) -> None:
        for option, folder in (
            ("--output-dir", self.output_dir),
            ("--summaries-dir", self.summaries_dir),
            ("--saved-model-dir", self.saved_model_dir),
            ("--intermediate-output-graphs-dir", self.intermediate_output_graphs_dir),
        ):
            self.source.require_outside(option, folder)
        for option, file in (
            ("--output-graph", self.output_graph),
            ("--output-labels", self.output_labels),
            ("--checkpoint-path", self.checkpoint_path),
        ):
            if file and file.parent.resolve() != self.source.image_dir.resolve():
                self.source.require_outside(option, file.parent)
        if self.test_batch_size == 0:
            raise WrongUse("--test-batch-size 0 tests nothing: -1 is the whole set")
        name = self.final_tensor_name
        if not _OPERATION.fullmatch(name) or name in TAKEN_OPERATION_NAMES:
            raise WrongUse(
                f"--final-tensor-name {name!r}: TensorFlow's names have letters, digits, . _ / - "
                f"only, and {', '.join(TAKEN_OPERATION_NAMES)} are taken"
            )
        if self.saved_model_dir and self.saved_model_dir.resolve() == self.output_dir.resolve():
            raise WrongUse(
                f"--saved-model-dir {self.saved_model_dir}: that is --output-dir: name another"
            )
