"""The frozen graph as a classifier: what the .tflite file is held against."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.classifier import PhotoClassifier
from deploy.contract import Contract
from deploy.errors import BadData
from deploy.foreign import damaged
from deploy.image import to_tensor
from retrain import graph
from retrain.run_folder import RunFolder


class GraphClassifier(PhotoClassifier):
    """A frozen graph with its contract, run by TensorFlow; threads may share it."""

    def __init__(self, graph_def: Any, contract: Contract, output_layer: str | None = None) -> None:
        """Take the operation `output_layer`, the contract's output if None, as probabilities."""
        self.contract = contract
        self._run = graph.session(graph_def, output_layer or contract.output)
        spec = contract.input
        with damaged("the graph does not run", "train again"):
            width = self._run(np.zeros((1, spec.height, spec.width, 3), np.float32)).shape[-1]
        if width != len(contract.labels):
            raise BadData(
                f"the graph has {width} outputs, its contract {len(contract.labels)} labels"
            )

    @classmethod
    def open(cls, path: Path, output_layer: str | None = None) -> "GraphClassifier":
        """Open the graph at `path`; contract.json must be beside it, and about it."""
        contract = RunFolder(path.parent).read_contract(path)
        definition = graph.read(path)
        try:
            return cls(definition, contract, output_layer)
        except BadData as error:
            raise BadData(f"{path}: {error}") from error

    def prepare(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return float32 (1, height, width, 3), normalised."""
        return to_tensor(image, self.contract.input)

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities for a graph's input."""
        scores: npt.NDArray[np.float32] = self._run(tensor)[0]
        return scores
