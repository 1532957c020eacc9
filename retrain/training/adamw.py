"""Minimise by AdamW (Loshchilov and Hutter, https://arxiv.org/abs/1711.05101), in numpy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrain.training.head import Floats

_MEAN_DECAY, _SQUARE_DECAY = np.float32(0.9), np.float32(0.999)
_EPSILON = np.float32(1e-8)


@dataclass
class AdamW:
    """Parameters, and the running means of their gradients and of the squares of these.

    All three are lists of arrays of the same shapes. `steps` counts the updates.
    """

    parameters: list[Floats]
    means: list[Floats]
    squares: list[Floats]
    steps: int = 0

    @classmethod
    def start(cls, parameters: Sequence[Floats]) -> "AdamW":
        """Return the state before the first update; `parameters` are copied."""
        zeros = [np.zeros_like(values) for values in parameters]
        return cls(
            [values.copy() for values in parameters], zeros, [values.copy() for values in zeros]
        )

    def update(
        self,
        gradients: Sequence[Floats],
        rates: Sequence[float],
        weight_decay: float,
        run_all: Callable[[Callable[[int], None], range], object],
    ) -> None:
        """Move each array of parameters by its rate; kernels decay, biases do not.

        A bias has one value for each channel. `run_all` calls a function for each number of a
        range, perhaps on several threads. Divergence is for the caller to find, in the values.
        """
        self.steps += 1
        mean_scale = np.float32(1 / (1 - _MEAN_DECAY**self.steps))
        square_scale = np.float32(1 / (1 - _SQUARE_DECAY**self.steps))

        def update(number: int) -> None:
            values, gradient = self.parameters[number], gradients[number]
            mean, square = self.means[number], self.squares[number]
            rate = np.float32(rates[number])
            is_kernel = values.ndim > 1 and values.size > values.shape[-1]
            with np.errstate(all="ignore"):
                mean += (gradient - mean) * (1 - _MEAN_DECAY)
                square += (gradient * gradient - square) * (1 - _SQUARE_DECAY)
                change = mean * mean_scale
                change /= np.sqrt(square * square_scale) + _EPSILON
                if is_kernel and weight_decay:
                    change += np.float32(weight_decay) * values
                values -= rate * change

        run_all(update, range(len(self.parameters)))
