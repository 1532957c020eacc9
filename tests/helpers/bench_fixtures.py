"""A run folder with its models, and `retrain bench` for as short as it goes.

never_busy and run_folder are for tests to import and to name in their `__all__`: pytest finds
them there, and ruff sees that they are wanted.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from retrain.cli import commands
from tests.helpers.deploy_fixtures import LABELS, write_run

FEW = ("--rounds", "2", "--runs", "8", "--threads", "1")
# The tiny network: 15x15 places of a 3x3 kernel from 3 to 6 channels, then 6 numbers to 4 classes.
MULTIPLY_ADDS = 15 * 15 * 3 * 3 * 3 * 6 + 6 * len(LABELS)


@pytest.fixture(autouse=True)
def never_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.compare_models.BUSY", 2.0)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny frozen graph and its models, as a run leaves them."""
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


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["bench", *map(str, arguments)])


def measured(*arguments: object) -> Any:
    result = invoke(*arguments, *FEW, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
