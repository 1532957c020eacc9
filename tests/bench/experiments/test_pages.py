"""Pages of measurements hold what the saved results say."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.experiments import pages
from deploy.errors import BadData


def test_the_tables_in_the_repository_are_those_of_the_results() -> None:
    result = CliRunner().invoke(pages.main, ["--check"], catch_exceptions=False)
    assert result.exit_code == 0


def test_each_table_stands_on_a_page() -> None:
    text = "".join(page.read_text("utf-8") for page in pages.PAGES.glob("*.md"))
    assert not [name for name in pages.TABLES if f"<!-- table: {name} -->" not in text]


def test_text_beside_a_table_stays_and_its_old_rows_go() -> None:
    begin, end = "<!-- table: busy -->\n", "<!-- end -->"
    text = pages.fill(f"before\n{begin}old\n{end}\nafter")
    assert text == f"before\n{begin}\n{pages.busy()}\n\n{end}\nafter"
    assert "| 1 | 3.44 s | 3.36 s | 0.98 |" in text


def test_backbones_are_compared_on_the_same_splits() -> None:
    lines = pages.backbones().splitlines()
    (lite2,) = (line for line in lines if "solar cells" in line and "Lite2" in line)
    assert "| -1.87 ± 1.02 |" in lite2
    assert all("| - |" in line for line in lines if "Lite0 |" in line)


def test_a_table_that_nothing_makes_is_refused() -> None:
    with pytest.raises(BadData, match="no table speed: there are accuracy"):
        pages.fill("<!-- table: speed -->\n<!-- end -->")


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
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    assert pages.fine_tuning() == "No result is saved."
    (tmp_path / "fine_tuning.json").write_text(fine_tuning_result(None))
    (tmp_path / "fine_tuning-few.json").write_text(fine_tuning_result(20))
    _, _, *rows = pages.fine_tuning().splitlines()
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
