"""Hold what a conversion measured, and read and write it as conversion.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy import versioned_json
from deploy.run_command import run_command
from deploy.untrusted_files import damaged, read_json
from deploy.versioned_json import Fields
from retrain import stored_settings
from retrain.conversion.choose_recipe import RecipeComparison
from retrain.conversion.layer_errors import LayerError
from retrain.conversion.parity import Parity
from retrain.conversion.unknown import Rejection
from retrain.settings.conversion import Bounds, ConvertSettings

SCHEMA_VERSION = 1


def _read_settings(fields: Fields) -> ConvertSettings:
    with damaged(f"{fields.where}: its settings cannot be read", fields.remedy):
        return stored_settings.read(fields, ConvertSettings)


@dataclass(frozen=True)
class ConversionResult:
    """What `retrain convert` measured of a model, and whether the model passed the gate.

    `graph_sha256` is of the run's graph, `model_sha256` of the model file; empty in files of
    versions that did not write it. A `composed` model was put together from the run's trunk, and
    not converted. `calibration_images` is the number of photos that a conversion was calibrated
    on. Sizes are in bytes. `per_channel_dense` is the parity of a
    model that a target did not run, because its dense layers have a scale for each channel.
    `comparison` is of the recipes that `choose` tried, `layers` the layers that `explain`
    measured, the worst first. `seconds` are by stage. `settings` are None in files of versions that
    did not write them.
    """

    recipe: str
    graph_sha256: str
    composed: bool
    calibration_images: int
    bounds: Bounds
    passed: bool
    model_sha256: str
    graph_bytes: int
    model_bytes: int
    parity: Parity
    rejection: Rejection | None
    per_channel_dense: Parity | None
    comparison: RecipeComparison | None
    layers: tuple[LayerError, ...] | None
    seconds: Mapping[str, float]
    settings: ConvertSettings | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, which is the content of conversion.json."""
        layers = None if self.layers is None else [layer.to_json() for layer in self.layers]
        return {
            "schema": SCHEMA_VERSION,
            "recipe": self.recipe,
            "graph_sha256": self.graph_sha256,
            **({"composed": True} if self.composed else {}),
            "calibration_images": self.calibration_images,
            **asdict(self.bounds),
            "passed": self.passed,
            "model_sha256": self.model_sha256,
            "bytes": {"graph": self.graph_bytes, "model": self.model_bytes},
            **self.parity.to_json(),
            "rejection": self.rejection and self.rejection.to_json(),
            "otherwise": self.per_channel_dense and self.per_channel_dense.to_json(),
            **(self.comparison.to_json() if self.comparison else {}),
            **({} if layers is None else {"layers": layers}),
            "seconds": dict(self.seconds),
            **({"settings": stored_settings.to_json(self.settings)} if self.settings else {}),
        }

    @classmethod
    def from_json(cls, value: Any, path: Path) -> "ConversionResult":
        """Read what `to_json`, or an earlier version, wrote to `path`; raise BadData if damaged."""
        fields = versioned_json.read(value, str(path), SCHEMA_VERSION, remedy_for(path))
        sizes, seconds = fields.object("bytes"), fields.object("seconds")
        rejection, settings = fields.object_or_none("rejection"), fields.object_or_none("settings")
        per_channel_dense = fields.object_or_none("otherwise")
        return cls(
            recipe=fields.text("recipe"),
            graph_sha256=fields.text("graph_sha256"),
            composed=fields.boolean("composed", default=False),
            calibration_images=fields.integer("calibration_images"),
            bounds=fields.record(Bounds),
            passed=fields.boolean("passed"),
            model_sha256=fields.text("model_sha256", default=""),
            graph_bytes=sizes.integer("graph"),
            model_bytes=sizes.integer("model"),
            parity=Parity.from_json(fields),
            rejection=rejection.record(Rejection) if rejection else None,
            per_channel_dense=Parity.from_json(per_channel_dense) if per_channel_dense else None,
            comparison=fields.record(RecipeComparison) if "candidates" in fields.values else None,
            layers=tuple(layer.record(LayerError) for layer in fields.objects("layers"))
            if "layers" in fields.values
            else None,
            seconds={stage: seconds.number(stage) for stage in seconds.values},
            settings=_read_settings(settings) if settings else None,
        )

    @classmethod
    def read(cls, path: Path) -> "ConversionResult":
        """Read the conversion.json at `path`; raise BadData if it is missing or damaged."""
        return cls.from_json(read_json(path, remedy_for(path)), path)


def remedy_for(path: Path) -> str:
    """Return how to write the conversion.json `path` of a run anew."""
    return f"run `{run_command(path.parent, 'convert')}`"
