"""Pages in a real browser: no errors, no sideways scrolling, search without a server."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.chromium import Browser, find_chromium, start_chromium

CHROMIUM = find_chromium()
DESKTOP, PHONE = 1280, 375
PAGES = ("index.html", "tutorials/first-model.html", "reference/cli.html")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM
    with start_chromium(CHROMIUM, tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_errors_and_fits(
    browser: Browser, site: Path, tmp_path: Path, name: str, width: int
) -> None:
    browser.open((site / name).as_uri(), width)
    browser.screenshot(tmp_path / "page.png")
    assert browser.evaluate("document.querySelector('h1').innerText")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert not browser.problems
    assert browser.requests
    assert not [url for url in browser.requests if not url.startswith(("file:", "data:"))]


def test_a_wide_table_scrolls_in_its_box(browser: Browser, site: Path) -> None:
    browser.open((site / "reference/files.html").as_uri(), PHONE)
    wider = browser.evaluate(
        "[...document.querySelectorAll('.md-typeset__scrollwrap')]"
        ".filter(box => box.scrollWidth > box.clientWidth).length"
    )
    assert wider > 0


def test_the_search_works_in_an_opened_folder(browser: Browser, site: Path) -> None:
    browser.open((site / "index.html").as_uri(), DESKTOP)
    browser.evaluate("document.querySelector('.md-search__button').click()")
    results = (
        "[...document.querySelectorAll('*')].flatMap(e => e.shadowRoot"
        " ? [...e.shadowRoot.querySelectorAll('a')].map(a => a.getAttribute('href')) : [])"
    )
    end = time.monotonic() + 20
    links: list[str] = []
    while time.monotonic() < end and not any("files.html" in link for link in links):
        # The dialog takes letters only once it is open.
        browser.evaluate("new Promise(resolve => setTimeout(resolve, 200))")
        if not browser.evaluate(
            "[...document.querySelectorAll('*')].some(e => e.shadowRoot?.activeElement?.value)"
        ):
            browser.call("Input.insertText", text="checkpoint")
        links = browser.evaluate(results)
    assert any("files.html" in link for link in links), links
    assert not browser.problems
