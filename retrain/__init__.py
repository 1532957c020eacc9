"""The laptop side: from a folder of photos to a quantized TFLite classifier.

From Python: `train(TrainConfig(Source(folder)))`, then `convert(ConvertConfig())`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrain.conversion.convert import convert as convert
    from retrain.conversion.inputs import ConvertConfig as ConvertConfig
    from retrain.data.distort import Distortion as Distortion
    from retrain.data.split import SplitConfig as SplitConfig
    from retrain.settings.training import Source as Source
    from retrain.settings.training import TrainConfig as TrainConfig
    from retrain.tflite.metadata import About as About
    from retrain.training.head import HeadConfig as HeadConfig
    from retrain.training.train import train as train

__version__ = "0.1.0"

_HOMES = {
    "About": "tflite.metadata",
    "ConvertConfig": "conversion.inputs",
    "Distortion": "data.distort",
    "HeadConfig": "training.head",
    "Source": "settings.training",
    "SplitConfig": "data.split",
    "TrainConfig": "settings.training",
    "convert": "conversion.convert",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: `retrain --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'retrain' has no attribute {name!r}")
    return getattr(importlib.import_module(f"retrain.{_HOMES[name]}"), name)
