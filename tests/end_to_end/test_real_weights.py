"""MobileNetV2's real weights on real photos: what int8 gives, over several splits."""

import json
from pathlib import Path
from statistics import mean

from tests.conftest import Invoke
from tests.helpers.developer_data import (
    FLOWERS,
    MOBILENET_V2,
    needs_flowers,
    needs_mobilenet_v2,
)

SALTS = 5


@needs_mobilenet_v2
@needs_flowers
def test_flowers_are_told_apart_in_int8(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--architecture", "mobilenet_v2", "--weights", MOBILENET_V2, "--cache-dir", tmp_path)
    right = []
    for salt in range(1, SALTS + 1):
        where = ("--output-dir", tmp_path / f"run-{salt}", "--json")
        result = invoke("train", FLOWERS, *options, "--split-salt", salt, *where)
        assert result.exit_code == 0, result.output
        # The bounds of a single model are not what is asked for here.
        bounds = ("--max-accuracy-drop", 100, "--min-agreement", 0, "--max-mean-difference", 1)
        result = invoke("convert", *where, *bounds, "--goldens", 0)
        assert result.exit_code == 0, result.output
        right.append(json.loads(result.stdout)["model"]["accuracy"])
    assert mean(right) >= 0.87, right
