"""Hold every setting of a training run, and its default."""

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from deploy.errors import WrongUse
from deploy.run_command import DEFAULT_RUN_FOLDER
from retrain.settings.label_image import LabelImageSettings
from retrain.settings.limits import require_at_least
from retrain.settings.source import Source

RESERVED_OPERATION_NAMES = ("input", "bottleneck", "logits")
"""Names of operations in every graph that retrain writes."""

ClassWeight = Literal["none", "balanced"]
Optimizer = Literal["standardized", "sgd"]

DEFAULT_WEIGHT_DECAY: dict[Optimizer, float] = {"standardized": 0.1, "sgd": 0.0}
_MAX_EPOCHS, _MAX_VIEWS, _MAX_TOTAL_VIEWS = 40, 10, 10_000
_OPERATION_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]{0,255}")
"""TensorFlow's rule for the name of an operation, and a length that the contract can hold."""


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the photos in percent. Another `salt` gives another, independent split."""

    testing_percentage: float = 10.0
    validation_percentage: float = 10.0
    salt: str = ""

    def __post_init__(self) -> None:
        # `not ... > 0` also refuses NaN, which compares false.
        if not (self.testing_percentage > 0 and self.validation_percentage > 0):
            raise WrongUse("`testing_percentage`, `validation_percentage`: each must be above 0")
        if not self.testing_percentage + self.validation_percentage < 100:
            raise WrongUse(
                "`testing_percentage`, `validation_percentage`: their sum must be below 100, or "
                "no photo is left for training"
            )


@dataclass(frozen=True)
class HeadSettings:
    """How to train the head.

    Steps, rate and sizes default to those of TensorFlow's image_retraining/retrain.py. Each item of
    a batch is drawn class first, then photo, so that rare classes are learned too.
    """

    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    train_batch_size: int = 100
    validation_batch_size: int = 100
    """Photos that validate a step; -1 is the whole validation set."""
    eval_step_interval: int = 10
    """Steps from one validation to the next."""
    intermediate_store_frequency: int = 0
    """Steps from one intermediate graph to the next; 0 writes none."""
    optimizer: Optimizer = "standardized"
    """"sgd" is that of retrain.py: bottlenecks unchanged, a constant rate. "standardized" is SGD on
    bottlenecks of mean 0 and deviation 1, with a rate that falls to zero along a cosine."""
    weight_decay: float | None = None
    """None is the optimizer's default."""
    label_smoothing: float = 0.0
    class_weight: ClassWeight = "none"
    """"balanced" gives probabilities for equally frequent classes. "none" adds the frequency of
    each class in the photos to the bias."""
    early_stop: int = 0
    """End the run after so many rounds (twentieths of the run) without a lower cross entropy of the
    validation photos, and each run of fine-tuning after so many epochs; 0 is never."""
    seed: int = 0

    def __post_init__(self) -> None:
        _require_usable(self.learning_rate, self.effective_weight_decay, self.label_smoothing)
        require_at_least(
            self,
            how_many_training_steps=1,
            train_batch_size=1,
            validation_batch_size=-1,
            eval_step_interval=1,
            intermediate_store_frequency=0,
            early_stop=0,
            seed=0,
        )
        if self.validation_batch_size == 0:
            raise WrongUse("`validation_batch_size`: 0 validates nothing: -1 is the whole set")

    @property
    def effective_weight_decay(self) -> float:
        """The weight decay of this run: `weight_decay`, or the optimizer's default."""
        if self.weight_decay is None:
            return DEFAULT_WEIGHT_DECAY[self.optimizer]
        return self.weight_decay


def _require_usable(learning_rate: float, weight_decay: float, label_smoothing: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise WrongUse(f"`learning_rate`: must be above 0 and finite, not {learning_rate}")
    # `not ... >= 0` also refuses NaN, which compares false.
    if not weight_decay >= 0:
        raise WrongUse(f"`weight_decay`: must be 0 or more, not {weight_decay}")
    if not 0 <= label_smoothing < 1:
        raise WrongUse(f"`label_smoothing`: must be 0 or more and below 1, not {label_smoothing}")


@dataclass(frozen=True)
class Distortion:
    """How views of training photos are distorted at random; the numbers are percentages, 0..100.

    `random_crop` is the margin around the random crop box, `random_scale` the largest enlargement.
    `random_brightness`, `random_contrast` and `random_saturation` are the largest changes of each,
    in both directions. With `random_area`, a view shows a random box of the photo, which leaves out
    up to so many percent of its area; `random_crop` and `random_scale` crop that box.
    `blank_centre`, of which no draw is made, leaves the view's border only: so many percent of each
    side, around the centre, are grey. The doctor sets it, and no option does.
    """

    flip_left_right: bool = False
    random_crop: int = 0
    random_scale: int = 0
    random_brightness: int = 0
    random_contrast: int = 0
    random_saturation: int = 0
    random_area: int = 0
    blank_centre: int = 0

    def __post_init__(self) -> None:
        for name, percentage in asdict(self).items():
            if not 0 <= percentage <= 100:
                raise WrongUse(f"`{name}`: must be a percentage of 0..100, not {percentage}")
        if self.random_area == 100:
            raise WrongUse("`random_area`: 100 leaves nothing of the photo: it must be below")

    @property
    def active(self) -> bool:
        """Whether any setting distorts a view."""
        return any(asdict(self).values())

    @property
    def identity(self) -> dict[str, int]:
        """The fields by their names, for a fingerprint.

        The fields that came later are left out while they are 0, so that the caches and checkpoints
        of earlier versions are found.
        """
        later = ("random_contrast", "random_saturation", "random_area", "blank_centre")
        return {name: value for name, value in asdict(self).items() if value or name not in later}

    @property
    def most_enlarged(self) -> float:
        """The largest factor by which a photo is enlarged before it is cropped."""
        smallest_side = math.sqrt(1 - self.random_area / 100)
        return (1 + self.random_crop / 100) * (1 + self.random_scale / 100) / smallest_side


@dataclass(frozen=True)
class FineTuneSettings:
    """How to train the last blocks of the network, above a cut.

    `cut` is the operation of the network after which training begins, None the default by cost.
    `epochs` and `views`, distorted views of each photo, follow from the number of photos if None.
    The weights of `average` runs with different seeds are averaged. `python -m
    bench.experiments.fine_tuning` measures the defaults.
    """

    cut: str | None = None
    epochs: int | None = None
    views: int | None = None
    average: int = 1
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    train_batch_size: int = 32
    distortion: Distortion = Distortion(
        flip_left_right=True,
        random_area=65,
        random_brightness=30,
        random_contrast=30,
        random_saturation=30,
    )

    def __post_init__(self) -> None:
        _require_usable(self.learning_rate, self.weight_decay, self.label_smoothing)
        require_at_least(self, epochs=1, views=1, average=1, train_batch_size=1)

    def epochs_for(self, photos: int) -> int:
        """Return the epochs for so many training photos: 38 for 80, 12 for 800, 4 for 8,000.

        Runs that are averaged take a third more: measured, their mean gains more by it than one
        run does.
        """
        if self.epochs is not None:
            return self.epochs
        of_800 = 12 if self.average == 1 else 16
        return max(1, min(_MAX_EPOCHS, round(of_800 * math.sqrt(800 / photos))))

    def views_for(self, photos: int) -> int:
        """Return the views of each of so many training photos: 10 for up to 1000, 1 for 10,000."""
        if self.views is not None:
            return self.views
        return max(1, min(_MAX_VIEWS, _MAX_TOTAL_VIEWS // photos))


@dataclass(frozen=True)
class TrainSettings:
    """Every setting of `train`.

    With `fine_tuning` the last blocks of the network are trained after the head. If `distortion`
    is active, each training photo gets `views` distorted views. A `test_batch_size` of -1 is the
    whole test set. Files whose path is None go into `output_dir`; but the SavedModel is then not
    written, and intermediate graphs are written only every `head.intermediate_store_frequency`
    steps. `resume` continues a run that was killed.
    """

    source: Source
    output_dir: Path = DEFAULT_RUN_FOLDER
    split: SplitSettings = SplitSettings()
    head: HeadSettings = HeadSettings()
    distortion: Distortion = Distortion()
    views: int = 4
    fine_tuning: FineTuneSettings | None = None
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
        for name in (
            "output_dir",
            "summaries_dir",
            "saved_model_dir",
            "intermediate_output_graphs_dir",
        ):
            self.source.require_outside(name, getattr(self, name))
        for name in ("output_graph", "output_labels", "checkpoint_path"):
            file: Path | None = getattr(self, name)
            photos = self.source.image_dir
            if file and not (
                isinstance(photos, Path) and file.parent.resolve() == photos.resolve()
            ):
                self.source.require_outside(name, file.parent)
        self._require_distinct_files()
        if self.intermediate_output_graphs_dir and not self.head.intermediate_store_frequency:
            raise WrongUse(
                "`intermediate_output_graphs_dir`: no graph is written there: set "
                "`intermediate_store_frequency` too"
            )
        require_at_least(self, views=1, test_batch_size=-1)
        if self.test_batch_size == 0:
            raise WrongUse("`test_batch_size`: 0 tests nothing: -1 is the whole set")
        name = self.final_tensor_name
        if not _OPERATION_NAME.fullmatch(name) or name in RESERVED_OPERATION_NAMES:
            raise WrongUse(
                f"`final_tensor_name` {name!r:.80}: must be of 1 to 256 letters, digits and . _ / "
                f"-, and none of {', '.join(RESERVED_OPERATION_NAMES)}"
            )
        if self.saved_model_dir and self.saved_model_dir.resolve() == self.output_dir.resolve():
            raise WrongUse(
                f"`saved_model_dir` {self.saved_model_dir}: that is `output_dir`: name another"
            )

    def _require_distinct_files(self) -> None:
        """Raise WrongUse if a file to write is one to read, or another one to write."""
        read = {
            name: getattr(self.source, name) for name in ("image_dir", "graph", "trunk", "weights")
        }
        written = ("output_graph", "output_labels", "checkpoint_path")
        files = {**read, **{name: getattr(self, name) for name in written}}
        names: dict[Path, str] = {}
        for name, file in files.items():
            if isinstance(file, Path):
                first = names.setdefault(file.resolve(), name)
                if name in written and first != name:
                    raise WrongUse(f"`{name}` {file}: that is `{first}` too: name another")


@dataclass(frozen=True)
class AdoptSettings:
    """Every setting of `adopt`: the frozen classifier `source.graph` and its file of `labels`.

    `typed` describes the classifier's input and output where the graph does not. More photos test
    than at `train`, since nothing is trained and calibration needs few. If the folders make a
    split, it is used and `split` is ignored.
    """

    source: Source
    labels: Path
    typed: LabelImageSettings = field(default_factory=LabelImageSettings)
    output_dir: Path = DEFAULT_RUN_FOLDER
    split: SplitSettings = SplitSettings(testing_percentage=60.0, validation_percentage=10.0)

    def __post_init__(self) -> None:
        if self.source.graph is None:
            raise WrongUse("`graph`: name the frozen graph to adopt")
        if self.source.precision == "int8":
            raise WrongUse(
                "`extract_precision`: the figures of an adopted graph are of float32: leave it out"
            )
        self.source.require_outside("output_dir", self.output_dir)
