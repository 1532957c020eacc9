"""What a run is asked to do: frozen settings, their defaults in one place."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from deploy.errors import WrongUse
from deploy.user_files import contains
from retrain import backbones
from retrain.backbones.custom.input_spec import Sides
from retrain.bottlenecks.engine import Choice, Wanted
from retrain.data.distort import Distortion
from retrain.data.split import SplitConfig
from retrain.tf_graph import BOTTLENECK, INPUT, LOGITS
from retrain.training.head import HeadConfig

_OPERATION = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
"""What TensorFlow takes as the name of an operation."""


def default_cache_dir() -> Path:
    """Return the user's cache folder: runs share what they have in common."""
    return Path(platformdirs.user_cache_dir("retrain"))


@dataclass(frozen=True)
class Source:
    """The photos, the backbone, and where bottlenecks are kept; in the cache if that is None.

    `weights` are a file of the backbone's; None are ImageNet's. `graph` is the file of a network
    of the user's own, instead of `architecture`; what is None of its tensors' names, height
    and width in pixels (one number for a square), mean and std of 0..255 is as
    `backbones.own_graph` says. `labels_from` is the level of the folders that are the classes, 1
    for those directly in `image_dir`; None is as `layout.read` says.
    """

    image_dir: Path
    architecture: str = backbones.DEFAULT
    cache_dir: Path = field(default_factory=default_cache_dir)
    bottleneck_dir: Path | None = None
    extract_engine: Wanted = "auto"
    weights: Path | None = None
    graph: Path | None = None
    input_tensor: str | None = None
    bottleneck_tensor: str | None = None
    input_size: int | Sides | None = None
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
    def engine(self) -> Choice:
        """The engine that photos are analysed with; probes are remembered in the cache."""
        return Choice(self.extract_engine, self.cache_dir / "engines")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what `train` makes, and where it goes.

    `views` distorted ones of each training photo are made if `distortion` is active. Paths that
    are None are in `output_dir`, or not written: the SavedModel, and the intermediate graphs,
    which `head.intermediate_store_frequency` asks for. -1 as `test_batch_size` is the whole test
    set. With `resume` a run that was killed goes on.
    """

    source: Source
    output_dir: Path = Path("retrained")
    split: SplitConfig = field(default_factory=SplitConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
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
        if not _OPERATION.fullmatch(name) or name in (INPUT, BOTTLENECK, LOGITS):
            raise WrongUse(
                f"--final-tensor-name {name!r}: TensorFlow's names have letters, digits, . _ / - "
                f"only, and {INPUT}, {BOTTLENECK} and {LOGITS} are taken"
            )
        if self.saved_model_dir and self.saved_model_dir.resolve() == self.output_dir.resolve():
            raise WrongUse(
                f"--saved-model-dir {self.saved_model_dir}: that is --output-dir: name another"
            )
