"""Hold the settings of TensorFlow's label_image.py, and its defaults."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelImageSettings:
    """How a graph of another program takes photos and gives scores; None is not set.

    Layers are names of tensors, sides are pixels, mean and std are of 0..255.
    """

    input_layer: str | None = None
    output_layer: str | None = None
    input_height: int | None = None
    input_width: int | None = None
    input_mean: float | None = None
    input_std: float | None = None


LABEL_IMAGE_DEFAULTS = LabelImageSettings(
    input_height=299, input_width=299, input_mean=0.0, input_std=255.0
)
