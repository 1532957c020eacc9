"""Measure the int8 accuracy of MobileNetV2 with its real weights, over several splits."""

import json
from pathlib import Path
from statistics import mean

from tests.helpers.developer_data import (
    FLOWERS,
    MOBILENET_V2,
    needs_flowers,
    needs_mobilenet_v2,
)
from tests.helpers.runs import Invoke

SPLITS = 5


@needs_mobilenet_v2
@needs_flowers
def test_int8_classifies_flowers(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--architecture", "mobilenet_v2", "--weights", MOBILENET_V2, "--cache-dir", tmp_path)
    accuracies = []
    for salt in range(1, SPLITS + 1):
        where = ("--output-dir", tmp_path / f"run-{salt}", "--json")
        result = invoke("train", FLOWERS, *options, "--split-salt", salt, *where)
        assert result.exit_code == 0, result.output
        # The mean is tested, not the gate's bounds of one model.
        bounds = ("--max-accuracy-drop", 100, "--min-agreement", 0, "--max-mean-difference", 1)
        result = invoke("convert", *where, *bounds, "--goldens", 0)
        assert result.exit_code == 0, result.output
        accuracies.append(json.loads(result.stdout)["model"]["accuracy"])
    assert mean(accuracies) >= 0.87, accuracies
