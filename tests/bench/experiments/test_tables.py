"""Tables show what the saved results say."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.experiments import tables


def network_rows(int8: tuple[float, ...], seconds: float, *kept: str) -> list[dict[str, Any]]:
    """Return a row for each salt, as bench.experiments.fine_tuning saves them."""
    return [
        {
            "salt": salt,
            "graph": accuracy + 0.01,
            "int8": accuracy,
            "agreement": 0.99,
            "total": 100,
            "bytes": 4_000_000,
            "seconds": seconds,
            "stages": {},
            "fine_tuning": {"kept": kept[salt - 1]} if kept else None,
        }
        for salt, accuracy in enumerate(int8, 1)
    ]


def fine_tuning_result(photos_per_class: int | None) -> str:
    """Return a small result of that experiment, of one data set and two splits."""
    networks: dict[str, list[dict[str, Any]]] = {
        "linear": network_rows((0.90, 0.88), 14),
        "fine-tuned": network_rows((0.94, 0.91), 150, "fine-tuned", "linear"),
        "averaged": network_rows((0.95, 0.93), 390, "fine-tuned", "fine-tuned"),
        # Plain Keras is not converted.
        "keras": [
            {"graph": accuracy, "total": 100, "seconds": 152, "fine_tuning": None}
            for accuracy in (0.92, 0.91)
        ],
    }
    measured = [{"photos": "photos", "networks": networks}]
    figures = {"average": 3, "photos_per_class": photos_per_class, "train": "--views 2"}
    return json.dumps({**figures, "measured": measured})


def test_fine_tuning_is_compared_with_linear_for_each_result_that_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.fine_tuning() == "No result is saved."
    (tmp_path / "fine_tuning.json").write_text(fine_tuning_result(None))
    (tmp_path / "fine_tuning-few.json").write_text(fine_tuning_result(20))
    _, _, *rows = tables.fine_tuning().splitlines()
    assert len(rows) == 8
    begin, end = "| solar cells |", "| 99.0% | 4.00 |"
    views = ", `--views 2` | 2 |"
    assert rows[:4] == [
        f"{begin} linear{views} 90.0% | 89.0% | - {end} 14 | - |",
        f"{begin} fine-tuned{views} 93.5% | 92.5% | +3.50 ± 0.50 {end} 150 | 1 of 2 |",
        f"{begin} mean of 3 runs{views} 95.0% | 94.0% | +5.00 ± 0.00 {end} 390 | 2 of 2 |",
        f"{begin} all layers, plain Keras{views} 91.5% | - | +1.50 ± 0.50 | - | - | 152 | - |",
    ]
    assert rows[4].startswith("| solar cells, 20 of each class | linear")
