"""Records that earlier versions wrote, and one as it is written today, still open."""

import json
from pathlib import Path

import pytest

from bench.record import read_one
from tests.helpers.bench_fixtures import invoke

FOLDER = Path(__file__).parent
FIRST = FOLDER / "schema-3-first.json"
"""Without `not_run`, a seed and the least warm-up."""
BEFORE = FOLDER / "schema-3-before-commands.json"
"""From the last version with the options --merge and --compare."""
TODAY = FOLDER / "today.json"


@pytest.mark.parametrize("path", [FIRST, BEFORE, TODAY], ids=lambda path: path.stem)
def test_a_record_shows_compares_and_is_drawn(path: Path, tmp_path: Path) -> None:
    shown = invoke("show", path)
    assert shown.exit_code == 0, shown.output
    assert "int8.tflite" in shown.stdout
    assert invoke("compare", path, path).exit_code == 0
    picture = tmp_path / "plot.svg"
    assert invoke("plot", path, "--output", picture).exit_code == 0
    assert picture.stat().st_size > 0


@pytest.mark.parametrize("path", [BEFORE, TODAY], ids=lambda path: path.stem)
def test_a_record_is_written_as_it_was_read(path: Path) -> None:
    text = path.read_text("utf-8")
    assert json.dumps(read_one(path).to_json(), indent=2) + "\n" == text


def test_an_early_record_has_the_seed_that_was_used() -> None:
    record = read_one(FIRST)
    assert record.not_run == ()
    assert record.settings.seed == 0
    assert record.rules.warm.least_seconds is None
    written = record.to_json()
    assert "least_seconds" not in written["rules"]["warm"]
    assert written["runners"] == json.loads(FIRST.read_text("utf-8"))["runners"]
