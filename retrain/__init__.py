"""The laptop side: from a folder of photos to a quantized TFLite classifier.

From Python: `train(TrainSettings(Source(folder)))`, then `convert(ConvertSettings())`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrain.conversion.convert import convert as convert
    from retrain.settings.conversion import About as About
    from retrain.settings.conversion import ConvertSettings as ConvertSettings
    from retrain.settings.training import Distortion as Distortion
    from retrain.settings.training import HeadSettings as HeadSettings
    from retrain.settings.training import Source as Source
    from retrain.settings.training import SplitSettings as SplitSettings
    from retrain.settings.training import TrainSettings as TrainSettings
    from retrain.training.train import train as train

__version__ = "0.1.0"

_HOMES = {
    "About": "settings.conversion",
    "ConvertSettings": "settings.conversion",
    "Distortion": "settings.training",
    "HeadSettings": "settings.training",
    "Source": "settings.training",
    "SplitSettings": "settings.training",
    "TrainSettings": "settings.training",
    "convert": "conversion.convert",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: `retrain --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'retrain' has no attribute {name!r}")
    return getattr(importlib.import_module(f"retrain.{_HOMES[name]}"), name)
