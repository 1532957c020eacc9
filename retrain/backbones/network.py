"""Define what a network offers to become a backbone."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from deploy.contract import InputSpec

Weights = dict[str, npt.NDArray[Any]]
"""Tensors by name, in the order of their file."""


@dataclass(frozen=True)
class Network(ABC):
    """A published network, cut before its last layer.

    `width` is that of a bottleneck, `top1` the share of ImageNet's validation photos that the
    authors' whole network gets right, as the page `top1_source` says.
    """

    name: str
    spec: InputSpec
    width: int
    top1: float
    top1_source: str

    @property
    @abstractmethod
    def weights_source(self) -> str:
        """Where the ImageNet weights come from: a package or an address."""

    @abstractmethod
    def installed_weights(self) -> Path | None:
        """Return the path of the ImageNet weights on this machine, None if they are not there."""

    @abstractmethod
    def fetch_weights(self) -> Path:
        """Return the path of the ImageNet weights, downloaded if need be; raise RetrainError."""

    @abstractmethod
    def read_weights(self, path: Path) -> Weights:
        """Return the tensors in the file `path`; raise BadData if it holds none."""

    @abstractmethod
    def graph_def(self, weights: Path | None) -> Any:
        """Return the frozen graph, INPUT to BOTTLENECK, of a weights file, or random weights.

        Batch normalization is folded into the convolutions. Raises BadData for weights of
        another network.
        """
