"""Classify photos on a device, with click, numpy, Pillow and a TFLite runtime only."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.classifier import Classifier

__all__ = ["Classifier"]


def __getattr__(name: str) -> Any:
    """Import the Classifier at its first use: `--help` needs no numpy."""
    if name == "Classifier":
        from deploy.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'deploy' has no attribute {name!r}")
