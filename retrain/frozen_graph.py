"""Define the frozen graph that training, conversion and bench hand on; TensorFlow is not loaded."""

import hashlib
from dataclasses import dataclass

from deploy.contract import InputSpec
from retrain.settings.training import RESERVED_OPERATION_NAMES

INPUT, BOTTLENECK, LOGITS = RESERVED_OPERATION_NAMES
"""Names of operations in every graph that this project writes."""


@dataclass(frozen=True)
class FrozenGraph:
    """A network whose weights are constants.

    Its operation INPUT takes float32 (N, height, width, 3), normalised as `spec` says; its
    operation `output` gives float32 (N, width).
    """

    graph_def: bytes
    """The serialized GraphDef; `tf_graph.parse` returns the message."""
    spec: InputSpec
    output: str

    @property
    def sha256(self) -> str:
        """The SHA-256 of the GraphDef, in hexadecimal: a contract's `graph_sha256`."""
        return hashlib.sha256(self.graph_def).hexdigest()
