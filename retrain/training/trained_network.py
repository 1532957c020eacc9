"""Define what training gives: a linear head on bottlenecks, or a fine-tuned top."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from retrain.training.head import Examples, Floats, Head, Ints
from retrain.training.top import Top


class TrainedNetwork(ABC):
    """A trained head, and the constants of the backbone's graph that training changed."""

    @property
    @abstractmethod
    def head(self) -> Head:
        """The head, on the bottlenecks of the graph with `constants`."""

    @property
    @abstractmethod
    def constants(self) -> Mapping[str, Floats]:
        """The values that replace constants of the backbone's graph, by name."""

    @abstractmethod
    def logits_of(self, split: str) -> Floats:
        """Return float32 (N, C): the logits of the undistorted photos of a split."""

    @abstractmethod
    def bottlenecks_of(self, split: str, indices: Ints) -> Floats:
        """Return float32 (N, D): the bottlenecks of the photos of a split at `indices` (N,)."""

    @abstractmethod
    def with_temperature(self, temperature: float) -> "TrainedNetwork":
        """Return the network whose logits are divided by `temperature`."""


@dataclass(frozen=True)
class LinearNetwork(TrainedNetwork):
    """The backbone as it was published, with a trained head; `examples` are bottlenecks."""

    trained_head: Head
    examples: Mapping[str, Examples]

    @property
    def head(self) -> Head:
        """The trained head."""
        return self.trained_head

    @property
    def constants(self) -> Mapping[str, Floats]:
        """None."""
        return {}

    def logits_of(self, split: str) -> Floats:
        """Return float32 (N, C): the logits of the undistorted photos of a split."""
        return self.trained_head.logits_of(self.examples[split])

    def bottlenecks_of(self, split: str, indices: Ints) -> Floats:
        """Return float32 (N, D): the bottlenecks of the photos of a split at `indices` (N,)."""
        examples = self.examples[split]
        return examples.store.take(examples.rows[indices, 0])

    def with_temperature(self, temperature: float) -> "LinearNetwork":
        """Return the network whose logits are divided by `temperature`."""
        return replace(self, trained_head=self.trained_head.with_temperature(temperature))


@dataclass(frozen=True)
class FineTunedNetwork(TrainedNetwork):
    """The parameters of a trained `top`; `examples` are feature maps."""

    top: Top
    parameters: Sequence[Floats]
    examples: Mapping[str, Examples]

    @property
    def head(self) -> Head:
        """The head that was trained with the layers below it."""
        return self.top.split(self.parameters)[1]

    @property
    def constants(self) -> Mapping[str, Floats]:
        """The trained kernels and biases."""
        return self.top.split(self.parameters)[0]

    def logits_of(self, split: str) -> Floats:
        """Return float32 (N, C): the logits of the undistorted photos of a split."""
        return self.top.logits_of(self.examples[split], self.parameters)

    def bottlenecks_of(self, split: str, indices: Ints) -> Floats:
        """Return float32 (N, D): the bottlenecks of the photos of a split at `indices` (N,)."""
        return self.top.bottlenecks_of(self.examples[split], indices, self.parameters)

    def with_temperature(self, temperature: float) -> "FineTunedNetwork":
        """Return the network whose logits are divided by `temperature`."""
        head = self.head.with_temperature(temperature)
        return replace(self, parameters=[*self.parameters[:-2], head.weights, head.bias])
