"""Run a frozen graph as a classifier, which a .tflite file is compared with."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.classifier import PhotoClassifier
from deploy.contract import Contract
from deploy.errors import BadData
from deploy.image import to_tensor
from deploy.system.counts import with_noun
from deploy.untrusted_files import damaged, naming
from retrain import tf_graph
from retrain.backbones.custom import classifier as foreign_classifier
from retrain.backbones.custom.classifier import (
    read_classic_labels,
)
from retrain.backbones.surgery.inference_subgraph import (
    node_name,
    strip_import_prefix,
    tensor_name,
)
from retrain.run_folder import RunFolder
from retrain.settings.label_image import LABEL_IMAGE_DEFAULTS, LabelImageSettings


class GraphClassifier(PhotoClassifier):
    """A frozen graph with its contract, run by TensorFlow; threads may share it."""

    def __init__(
        self,
        graph_def: Any,
        contract: Contract,
        output_layer: str | None = None,
        labels_source: str = "its contract",
    ) -> None:
        """Load the GraphDef, whose operation `output_layer` gives probabilities.

        `output_layer` None is the contract's output. Raises BadData, which names `labels_source`,
        if the number of outputs is not the number of labels.
        """
        self.contract = contract
        self._run = tf_graph.session(graph_def, output_layer or contract.output)
        spec = contract.input
        with damaged("TensorFlow does not run this graph"):
            width = self._run(np.zeros((1, spec.height, spec.width, 3), np.float32)).shape[-1]
        if width != len(contract.labels):
            raise BadData(
                f"the graph has {with_noun(width, 'output')}, {labels_source} "
                f"{with_noun(len(contract.labels), 'label')}"
            )

    @classmethod
    def open(cls, path: Path, output_layer: str | None = None) -> "GraphClassifier":
        """Open the graph at `path`; contract.json must be beside it, and have its digest."""
        contract = RunFolder(path.parent).read_contract(path)
        with naming(path):
            graph_def = tf_graph.read(path)
            if output_layer:
                output_layer = node_name(tensor_name(strip_import_prefix(graph_def, output_layer)))
            return cls(graph_def, contract, output_layer)

    @classmethod
    def open_foreign(
        cls, path: Path, labels: Path, typed: LabelImageSettings
    ) -> tuple["GraphClassifier", tuple[str, ...]]:
        """Open a frozen graph of another program; also return the options that were assumed."""
        names = read_classic_labels(labels)
        with tf_graph.reading(path):
            graph_def = tf_graph.read(path)
            ends = foreign_classifier.find_ends(graph_def, typed, LABEL_IMAGE_DEFAULTS)
            frozen = foreign_classifier.extract_classifier(graph_def, ends)
            contract = Contract(
                input=frozen.spec,
                labels=names,
                backbone=path.name,
                weights_sha256="",
                dataset_sha256="",
                graph_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                tool_version="",
                output=frozen.output,
            )
            classifier = cls(
                tf_graph.parse(frozen.graph_def), contract, labels_source=f"but {labels}"
            )
        return classifier, ends.defaults

    def prepare(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return float32 (1, height, width, 3), normalised."""
        return to_tensor(image, self.contract.input)

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 (classes,), the probabilities for the graph's input."""
        scores: npt.NDArray[np.float32] = self._run(tensor)[0]
        return scores
