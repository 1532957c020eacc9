"""A run to convert, and its networks converted already: each test file imports what it asks for."""

from pathlib import Path

import pytest

from retrain.conversion import recipes
from retrain.settings.conversion import Quantization
from tests.helpers.deploy_fixtures import networks, write_colour_run


def converted(how: Quantization) -> bytes:
    """Return the flatbuffer of the tiny network, in bytes for int8, else in float32."""
    return networks().uint8 if how.recipe == "int8" else networks().float32


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run folder of the tiny network, which tells colours; a third of the photos tests."""
    return write_colour_run(tmp_path)


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the networks that were converted already."""
    monkeypatch.setattr(recipes, "quantize", lambda _graph, how, *_: converted(how))
