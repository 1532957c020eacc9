"""Hold a network of the user's own, and where photos enter it and bottlenecks leave it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from retrain.backbones.surgery.inference_subgraph import strip_import_prefix
from retrain.backbones.surgery.photo_input import Sides, as_sides


@dataclass(frozen=True)
class Ends:
    """Where photos enter a network and bottlenecks leave it; None is not known.

    `input_size` is height and width in pixels, one number for a square; `input_mean` and
    `input_std` are of 0..255. Each field has the name of the setting that gives it.
    """

    input_tensor: str | None = None
    bottleneck_tensor: str | None = None
    input_size: int | Sides | None = None
    input_mean: float | None = None
    input_std: float | None = None

    @property
    def sides(self) -> Sides | None:
        """Height and width in pixels."""
        return as_sides(self.input_size)

    def or_else(self, default: "Ends") -> "Ends":
        """Return these ends, with `default` for what is not known."""
        changes = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(default, **changes)

    def named_in(self, graph_def: Any) -> "Ends":
        """Return these ends with the tensors as the graph names them."""
        return replace(
            self,
            input_tensor=self.input_tensor and strip_import_prefix(graph_def, self.input_tensor),
            bottleneck_tensor=self.bottleneck_tensor
            and strip_import_prefix(graph_def, self.bottleneck_tensor),
        )


@dataclass(frozen=True)
class CustomNetwork:
    """A frozen GraphDef, and what its file says of its ends."""

    graph_def: Any
    ends: Ends = field(default_factory=Ends)
