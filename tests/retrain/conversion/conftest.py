"""Fixtures: a run of the tiny network, and conversions without a process of their own."""

from pathlib import Path

import pytest

from retrain.quantization import quantize
from tests.helpers.conversions import tiny_flatbuffer
from tests.helpers.deploy_fixtures import write_colour_run
from tests.helpers.runs import Invoke


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """Return a run folder of the tiny network that `retrain convert` converted to int8.

    Not to be changed.
    """
    folder = write_colour_run(tmp_path_factory.mktemp("converted"))
    result = invoke("convert", "--output-dir", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run folder of the tiny network, which tells colours; a third of the photos tests."""
    folder = write_colour_run(tmp_path)
    (folder / "labels.txt").unlink()  # which `retrain convert` writes
    return folder


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the tiny network's flatbuffers instead of converting."""
    monkeypatch.setattr(quantize, "quantize", lambda _graph, how, _photos: tiny_flatbuffer(how))
