"""Pages in a real browser: no errors, no sideways scrolling, search without a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.helpers.chromium import (
    DESKTOP,
    NO_CHROMIUM,
    PHONE,
    find_chromium,
    open_page,
    start_chromium,
)

CHROMIUM = find_chromium()
PAGES = ("index.html", "tutorials/first-model.html", "reference/cli.html")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM
    with start_chromium(CHROMIUM) as browser:
        yield browser


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_errors_and_fits(
    browser: Browser, site: Path, name: str, width: int
) -> None:
    with open_page(browser, site / name, width) as opened:
        assert opened.page.locator("h1").inner_text()
        assert opened.width <= width
        assert not opened.problems
        assert opened.requests
        assert not [url for url in opened.requests if not url.startswith(("file:", "data:"))]


def test_a_wide_table_scrolls_in_its_box(browser: Browser, site: Path) -> None:
    with open_page(browser, site / "reference/files.html", PHONE) as opened:
        wider = opened.page.evaluate(
            "[...document.querySelectorAll('.md-typeset__scrollwrap')]"
            ".filter(box => box.scrollWidth > box.clientWidth).length"
        )
    assert wider > 0


def test_the_search_works_in_an_opened_folder(browser: Browser, site: Path) -> None:
    with open_page(browser, site / "index.html") as opened:
        opened.page.locator(".md-search__button").click()
        opened.page.locator("input:focus").fill("checkpoint")
        opened.page.locator("a[href$='files.html#checkpointnpz']").wait_for()
        assert not opened.problems
