"""Pages of measurements hold what the saved results say."""

import pytest
from click.testing import CliRunner

from bench.experiments import pages, tables
from deploy.errors import BadData


def test_the_tables_in_the_repository_are_those_of_the_results() -> None:
    result = CliRunner().invoke(pages.main, ["--check"], catch_exceptions=False)
    assert result.exit_code == 0


def test_each_table_stands_on_a_page() -> None:
    text = "".join(page.read_text("utf-8") for page in pages.PAGES.glob("*.md"))
    assert not [name for name in tables.TABLES if f"<!-- table: {name} -->" not in text]


def test_text_beside_a_table_stays_and_its_old_rows_go() -> None:
    begin, end = "<!-- table: busy -->\n", "<!-- end -->"
    text = pages.fill(f"before\n{begin}old\n{end}\nafter")
    assert text == f"before\n{begin}\n{tables.busy()}\n\n{end}\nafter"
    assert "| 1 | 3.44 s | 3.36 s | 0.98 |" in text


def test_backbones_are_compared_on_the_same_splits() -> None:
    lines = tables.backbones().splitlines()
    (lite2,) = (line for line in lines if "solar cells" in line and "Lite2" in line)
    assert "| -1.87 ± 1.02 |" in lite2
    assert all("| - |" in line for line in lines if "Lite0 |" in line)


def test_a_table_that_nothing_makes_is_refused() -> None:
    with pytest.raises(BadData, match="no table speed: there are accuracy"):
        pages.fill("<!-- table: speed -->\n<!-- end -->")
