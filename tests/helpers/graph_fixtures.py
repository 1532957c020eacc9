"""What a graph makes of an array."""

from typing import Any

import numpy as np
import numpy.typing as npt

from retrain.tf_graph import tensorflow


def predict(run: Any, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what the concrete function `run` makes of `tensor`, as a numpy array."""
    return np.asarray(run(tensorflow().constant(tensor)))
