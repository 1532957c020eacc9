"""Hold every setting of a training run, and its default."""

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from deploy.errors import WrongUse
from deploy.run_command import DEFAULT_RUN_FOLDER
from deploy.user_files import contains
from retrain.settings.cache import PICTURES, SCANS, UrlPlace, bottleneck_place, default_cache_dir
from retrain.settings.label_image import LabelImageSettings
from retrain.settings.limits import require_at_least

DEFAULT_ARCHITECTURE = "efficientnet_lite0"
RESERVED_OPERATION_NAMES = ("input", "bottleneck", "logits")
"""Names of operations in every graph that retrain writes."""

ClassWeight = Literal["none", "balanced"]
ExtractEngine = Literal["auto", "tensorflow", "tflite"]
ExtractPrecision = Literal["auto", "float32", "int8"]
Executor = Literal["threads", "ray"]
Precision = Literal["float32", "int8"]
Optimizer = Literal["standardized", "sgd"]

DEFAULT_WEIGHT_DECAY: dict[Optimizer, float] = {"standardized": 0.1, "sgd": 0.0}
_MAX_EPOCHS, _MAX_VIEWS, _MAX_TOTAL_VIEWS = 40, 10, 10_000
_OPERATION_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]{0,255}")
"""TensorFlow's rule for the name of an operation, and a length that the contract can hold."""


@dataclass(frozen=True)
class Source:
    """The photos, the backbone, and the caches.

    `image_dir` is a folder, a list (.csv or .parquet), tar files, or the text of the URL of one
    (`data.source`). `labels_from` is the level of the class folders: 1 for those directly in
    `image_dir`; None lets the folder's layout decide (`data.folder_layout`).
    `weights` is a file of the backbone's weights, None the published ones. `graph` is the file of
    the user's own network, used instead of `architecture`; `input_tensor` to `input_std` describe
    it (`input_size`: height and width in pixels, or one number for a square; mean and std of
    0..255), and what is None is read from the file (`backbones.custom.load`). Without
    `bottleneck_dir`, which may be the text of a URL, bottlenecks lie in `cache_dir`. `executor`
    analyses the photos: threads of this process, or actors of Ray, on the cluster at `ray_address`;
    None starts Ray on this machine, until this process ends. `extract_precision` says which network
    computes bottlenecks: the float32 one, or its int8 trunk. The feature maps of fine-tuning are
    always of float32. `trunk` is the file `trunk.tflite` of another run: both runs then share
    bottlenecks.
    """

    image_dir: Path | str
    architecture: str = DEFAULT_ARCHITECTURE
    cache_dir: Path = field(default_factory=default_cache_dir)
    bottleneck_dir: Path | str | None = None
    extract_engine: ExtractEngine = "auto"
    weights: Path | None = None
    graph: Path | None = None
    input_tensor: str | None = None
    bottleneck_tensor: str | None = None
    input_size: int | tuple[int, int] | None = None
    input_mean: float | None = None
    input_std: float | None = None
    labels_from: int | None = None
    extract_precision: ExtractPrecision = "auto"
    trunk: Path | None = None
    executor: Executor = "threads"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.ray_address and self.executor != "ray":
            raise WrongUse("`ray_address` is for `executor` ray")
        if self.executor == "ray" and self.extract_engine == "tensorflow":
            raise WrongUse(
                "`executor` ray runs the tflite engine only: leave out `extract_engine` tensorflow"
            )
        if self.trunk and self.extract_precision == "float32":
            raise WrongUse("`trunk` is int8: leave it out, or `extract_precision` float32")
        if self.extract_engine == "tensorflow" and self.precision == "int8":
            raise WrongUse(
                "`extract_engine` tensorflow runs float32 only, and int8 runs on tflite: leave it "
                f"out, or leave out {'`trunk`' if self.trunk else '`extract_precision` int8'}"
            )
        for name in ("input_tensor", "bottleneck_tensor", "input_size", "input_mean", "input_std"):
            if self.graph is None and getattr(self, name) is not None:
                raise WrongUse(f"`{name}` is for a network named with `graph`")
        require_at_least(self, labels_from=1)
        self.require_outside("cache_dir", self.cache_dir)
        if isinstance(self.bottleneck_dir, Path):
            self.require_outside("bottleneck_dir", self.bottleneck_dir)

    def require_outside(self, setting: str, folder: Path | None) -> None:
        """Raise WrongUse, naming `setting`, if `folder` would be a class folder of the photos.

        Hidden folders are never class folders.
        """
        if folder and isinstance(self.image_dir, Path) and contains(self.image_dir, folder):
            raise WrongUse(
                f"`{setting}` {folder}: that is in the folder of photos, and would be taken for a "
                f"class: name one outside it, such as ../{folder.name or DEFAULT_RUN_FOLDER}"
            )

    @property
    def precision(self) -> Precision:
        """The precision that `extract_precision` means: auto is that of `trunk`, or float32."""
        if self.extract_precision != "auto":
            return self.extract_precision
        return "int8" if self.trunk else "float32"

    @property
    def bottlenecks(self) -> Path | UrlPlace:
        """The folder that holds a cache for each fingerprint."""
        return bottleneck_place(self.bottleneck_dir, self.cache_dir)

    @property
    def pictures(self) -> Path:
        """The folder that holds a thumbnail and the statistics of each photo."""
        return self.cache_dir / PICTURES

    @property
    def scans(self) -> Path:
        """The folder that holds the digests of the photos of each place, as the last scan saw."""
        return self.cache_dir / SCANS

    @property
    def engines(self) -> Path:
        """The folder that holds the measured speed of each engine, by backbone."""
        return self.cache_dir / "engines"


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
        read = {name: getattr(self.source, name) for name in ("image_dir", "graph", "weights")}
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
