"""Define what training gives: a linear head on bottlenecks, or a fine-tuned top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.training.head import Examples, Floats, Head, Ints
from retrain.training.top import Top


class TrainedNetwork(Protocol):
    """A trained head, and the values of the constants that training changed.

    `head` takes the bottlenecks of the backbone's graph in which `constants` are replaced, by name.
    """

    @property
    def head(self) -> Head:
        """The trained head."""

    @property
    def constants(self) -> Mapping[str, Floats]:
        """The new values of constants, by name."""

    def logits_of(self, split: str) -> Floats:
        """Return float32 (N, C): the logits of the undistorted photos of a split."""

    def accuracy_on(self, split: str) -> Accuracy:
        """Return the accuracy on the undistorted photos of a split."""

    def bottlenecks_of(self, split: str, indices: Ints) -> Floats:
        """Return float32 (N, D): the bottlenecks of the photos of a split at `indices` (N,)."""

    def with_temperature(self, temperature: float) -> "TrainedNetwork":
        """Return the network whose logits are divided by `temperature`."""


@dataclass(frozen=True)
class LinearNetwork:
    """The backbone as it was published, with a trained head; `examples` are bottlenecks."""

    head: Head
    examples: Mapping[str, Examples]
    constants: Mapping[str, Floats] = field(default_factory=dict)

    def logits_of(self, split: str) -> Floats:
        """Return float32 (N, C): the logits of the undistorted photos of a split."""
        return self.head.logits_of(self.examples[split])

    def accuracy_on(self, split: str) -> Accuracy:
        """Return the accuracy on the undistorted photos of a split."""
        return self.head.accuracy_on(self.examples[split])

    def bottlenecks_of(self, split: str, indices: Ints) -> Floats:
        """Return float32 (N, D): the bottlenecks of the photos of a split at `indices` (N,)."""
        examples = self.examples[split]
        return examples.store.take(examples.rows[indices, 0])

    def with_temperature(self, temperature: float) -> "LinearNetwork":
        """Return the network whose logits are divided by `temperature`."""
        return replace(self, head=self.head.with_temperature(temperature))


@dataclass(frozen=True)
class FineTunedNetwork:
    """The parameters of a trained `top`; `examples` are feature maps."""

    top: Top
    parameters: Sequence[Floats]
    examples: Mapping[str, Examples]
    progress: Progress

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

    def accuracy_on(self, split: str) -> Accuracy:
        """Return the accuracy on the undistorted photos of a split."""
        examples = self.examples[split]
        text = f"accuracy on {split} photos"
        with self.progress.bar(text, len(examples.labels), "photos") as advance:
            logits = self.top.logits_of(examples, self.parameters, advance)
        return Accuracy.of(logits, examples.labels)

    def bottlenecks_of(self, split: str, indices: Ints) -> Floats:
        """Return float32 (N, D): the bottlenecks of the photos of a split at `indices` (N,)."""
        return self.top.bottlenecks_of(self.examples[split], indices, self.parameters)

    def with_temperature(self, temperature: float) -> "FineTunedNetwork":
        """Return the network whose logits are divided by `temperature`."""
        head = self.head.with_temperature(temperature)
        return replace(self, parameters=[*self.parameters[:-2], head.weights, head.bias])
