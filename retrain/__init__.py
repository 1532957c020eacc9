"""Train on a folder of photos, and convert to a quantized TFLite classifier.

From Python: `train(TrainSettings(Source(folder)))`, then `convert(ConvertSettings())`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.errors import BadData as BadData
    from deploy.errors import GateFailed as GateFailed
    from deploy.errors import RetrainError as RetrainError
    from deploy.errors import WrongUse as WrongUse
    from retrain.conversion.convert import convert as convert
    from retrain.conversion.result import ConversionResult as ConversionResult
    from retrain.settings.conversion import About as About
    from retrain.settings.conversion import ConvertSettings as ConvertSettings
    from retrain.settings.label_image import LabelImageSettings as LabelImageSettings
    from retrain.settings.source import Source as Source
    from retrain.settings.training import AdoptSettings as AdoptSettings
    from retrain.settings.training import Distortion as Distortion
    from retrain.settings.training import FineTuneSettings as FineTuneSettings
    from retrain.settings.training import HeadSettings as HeadSettings
    from retrain.settings.training import SplitSettings as SplitSettings
    from retrain.settings.training import TrainSettings as TrainSettings
    from retrain.training.adopt import adopt as adopt
    from retrain.training.result import TrainResult as TrainResult
    from retrain.training.train import train as train

__version__ = "0.1.0"

_MODULES = {
    "About": "retrain.settings.conversion",
    "AdoptSettings": "retrain.settings.training",
    "BadData": "deploy.errors",
    "ConversionResult": "retrain.conversion.result",
    "ConvertSettings": "retrain.settings.conversion",
    "Distortion": "retrain.settings.training",
    "FineTuneSettings": "retrain.settings.training",
    "GateFailed": "deploy.errors",
    "HeadSettings": "retrain.settings.training",
    "LabelImageSettings": "retrain.settings.label_image",
    "RetrainError": "deploy.errors",
    "Source": "retrain.settings.source",
    "SplitSettings": "retrain.settings.training",
    "TrainResult": "retrain.training.result",
    "TrainSettings": "retrain.settings.training",
    "WrongUse": "deploy.errors",
    "adopt": "retrain.training.adopt",
    "convert": "retrain.conversion.convert",
    "train": "retrain.training.train",
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; `retrain --help` needs none of them."""
    if name not in _MODULES:
        raise AttributeError(f"module 'retrain' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
