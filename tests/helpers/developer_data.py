"""Name the files that a developer has, and that no clone of the repository holds."""

import os
from pathlib import Path

import pytest

FLOWERS = Path(os.environ.get("RETRAIN_FLOWERS") or "not set")
"""A folder of photos of flowers, one sub-folder a class, `daisy` among them."""
MOBILENET_V2 = Path(os.environ.get("RETRAIN_MOBILENET_V2") or "not set")
"""Keras' ImageNet weights of MobileNetV2 without the last layer."""

needs_flowers = pytest.mark.skipif(
    not FLOWERS.is_dir(), reason="RETRAIN_FLOWERS names no folder of photos"
)
needs_mobilenet_v2 = pytest.mark.skipif(
    not MOBILENET_V2.is_file(), reason="RETRAIN_MOBILENET_V2 names no weights file"
)
