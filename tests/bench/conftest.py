"""A run folder with tiny models, and ways to bench them quickly."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.bench_fixtures import Clock, make_quick
from tests.helpers.deploy_fixtures import write_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with a tiny frozen graph and its models. Not to be changed."""
    folder = write_run(tmp_path_factory.mktemp("retrained"))
    (folder / "recipes").mkdir()
    shutil.move(folder / "float.tflite", folder / "recipes" / "float32.tflite")
    shutil.copy(folder / "model.tflite", folder / "recipes" / "int8.tflite")
    sizes = {path.stem: path.stat().st_size for path in folder.rglob("*.*")}
    conversion = {
        "graph_sha256": hashlib.sha256((folder / "output_graph.pb").read_bytes()).hexdigest(),
        "passed": True,
        "bytes": {"graph": sizes["output_graph"], "model": sizes["model"]},
        "graph": {"accuracy": 0.9, "interval95": [0.8, 0.95]},
        "model": {"accuracy": 0.8, "interval95": [0.7, 0.9]},
        "candidates": [
            {
                "recipe": "float32",
                "accuracy": 0.7,
                "interval95": [0.6, 0.8],
                "bytes": sizes["float32"],
            }
        ],
    }
    (folder / "conversion.json").write_text(json.dumps(conversion))
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run rounds in this process, with little warm-up; the machine is never busy."""
    make_quick(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of rounds and of fake models, which moves only when one sleeps."""
    clock = Clock()
    monkeypatch.setattr("bench.time_one_round.time", clock)
    monkeypatch.setattr("tests.helpers.fake_runners.time", clock)
    return clock
