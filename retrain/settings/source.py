"""Hold the settings of what is analysed: the photos, the backbone, the caches and the engine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.errors import WrongUse
from deploy.run_command import DEFAULT_RUN_FOLDER
from deploy.user_files import contains
from retrain.settings.cache import PICTURES, SCANS, UrlPlace, bottleneck_place, default_cache_dir
from retrain.settings.limits import require_at_least

DEFAULT_ARCHITECTURE = "efficientnet_lite0"

ExtractEngine = Literal["auto", "tensorflow", "tflite"]
ExtractPrecision = Literal["auto", "float32", "int8"]
Executor = Literal["threads", "ray"]
Precision = Literal["float32", "int8"]


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
