"""The report in a real browser: by mouse and by keyboard, small and large, light and dark."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.helpers.chromium import (
    DESKTOP,
    NO_CHROMIUM,
    PHONE,
    Opened,
    find_chromium,
    open_page,
    start_chromium,
)
from tests.helpers.make_once import make_once
from tests.helpers.photos import LABELS, draw
from tests.helpers.runs import Invoke, Train

CHROMIUM = find_chromium()
TAG, QUOTES, LONG = "<img src=x onerror=alert(1)>", '"O\'Neil" & مرحبا `{{7*7}}`', "l" * 200
CLASSES = (TAG, QUOTES, LONG)
NAMES = (
    "<script>alert(2)<",
    "\"quoted\" & 'single'",
    "\u202egnp",
    "\x1b[31mred\x1b]0;title\x07",
    "two\nlines",
    "צילום",
    "n" * 200,
)
"""Hostile names of files; each class has all of them."""
CUT = "\x1b[2Jcut\n\u202eshort.png"
SWAPPED = 8
"""Photos of the first class that lie in the second: some are misclassified."""
GRAVE = ("serious", "critical")
LOOKS = pytest.mark.parametrize(
    ("width", "scheme"),
    [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")],
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)


def write_photos(root: Path) -> Path:
    """Write photos that a network learns in a few steps, with hostile labels, names and faults."""
    random = np.random.default_rng(1)
    for label, name in zip(CLASSES, LABELS, strict=True):
        (root / label).mkdir(parents=True)
        for i in range(30):
            kind = LABELS[0] if label == QUOTES and i < SWAPPED else name
            stem = NAMES[i] if i < len(NAMES) else f"{i:02}"
            draw(kind, random).save(root / label / f"{stem}.png")
    Image.new("RGB", (96, 96), (2, 2, 2)).save(root / TAG / "dark.png")
    (root / LONG / CUT).write_bytes((root / LONG / "10.png").read_bytes()[:200])
    return root


@pytest.fixture(scope="module")
def report(train: Train, invoke: Invoke, shared: Path) -> Path:
    """Return the report of a run on these photos."""

    def make(folder: Path) -> None:
        photos = write_photos(folder / "photos")
        run = train("--how-many-training-steps", 200, source=photos, folder=folder / "run")
        (run.folder / "report.html").unlink(missing_ok=True)
        result = invoke("report", "--output-dir", run.folder)
        assert result.exit_code == 0, result.output

    return make_once(shared / "hostile", make) / "run" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM
    with start_chromium(CHROMIUM) as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    with open_page(browser, report, accept_downloads=True) as opened:
        yield opened
        assert not opened.problems


@pytest.fixture
def page(opened: Opened) -> Page:
    return opened.page


def confused(page: Page) -> Locator:
    """Return the first cell of the matrix with photos that are taken for another class."""
    return page.locator("table.matrix td.miss button").first


# It opens


@LOOKS
def test_it_opens_without_errors_and_fits(
    browser: Browser, report: Path, width: int, scheme: Any
) -> None:
    with open_page(browser, report, width, color_scheme=scheme) as opened:
        expect(opened.page.locator("h1")).to_contain_text(re.compile("photos right"))
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        assert opened.width <= width
        confused(opened.page).click()
        assert opened.width <= width
        assert not opened.problems
        assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]


def test_numbers_and_headings_of_tables_stay_whole(browser: Browser, report: Path) -> None:
    """On a phone a wide table scrolls in its box; a broken word has a letter on each line."""
    with open_page(browser, report, PHONE) as opened:
        broken = opened.page.evaluate(
            """() => [...document.querySelectorAll("td, thead th")]
              .filter(cell => !cell.closest(".texts, .matrix thead"))
              .flatMap(cell => {
                const node = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode();
                return [...(node?.data ?? "").matchAll(/\\w+/g)].filter(word => {
                  const range = document.createRange();
                  range.setStart(node, word.index);
                  range.setEnd(node, word.index + word[0].length);
                  return range.getClientRects().length > 1;
                }).map(word => word[0]);
              })"""
        )
    assert not broken


def test_dark_is_dark(browser: Browser, report: Path) -> None:
    levels = {}
    for scheme in ("light", "dark"):
        options: dict[str, Any] = {"color_scheme": scheme}
        with open_page(browser, report, **options) as opened:
            colour = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
            levels[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
    assert levels["light"] > 600 > 300 > levels["dark"]


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_axe_finds_nothing_grave(browser: Browser, report: Path, width: int, scheme: Any) -> None:
    # The page's own policy would refuse the test's program.
    with open_page(browser, report, width, color_scheme=scheme, bypass_csp=True) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        opened.page.locator("input[type=checkbox]").first.check()
        violations = Axe().run(opened.page).response["violations"]
        confused(opened.page).click()
        violations += Axe().run(opened.page).response["violations"]
    grave = [
        (violation["id"], [node["html"][:300] for node in violation["nodes"]][:3])
        for violation in violations
        if violation["impact"] in GRAVE
    ]
    assert not grave


def test_it_reads_without_javascript(browser: Browser, report: Path) -> None:
    with open_page(browser, report, java_script_enabled=False) as opened:
        expect(opened.page.locator("h1")).to_contain_text("photos right")
        expect(confused(opened.page)).to_be_visible()


# Numbers open their photos


def test_a_cell_of_the_matrix_shows_its_photos(page: Page) -> None:
    cell = confused(page)
    count = int(cell.inner_text())
    label, _, predicted = (
        (cell.get_attribute("aria-label") or "").partition(": ")[2].partition(", taken for ")
    )
    cell.click()
    dialog = page.locator("dialog#gallery")
    expect(dialog).to_be_visible()
    photos = dialog.locator("li")
    expect(photos).to_have_count(count)
    for photo in photos.all():
        expect(photo.locator("p")).to_contain_text(f"{predicted} ")
        expect(photo.locator("p")).to_contain_text(f"is {label} ")
        assert photo.locator("img").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_every_number_opens_as_many_photos_as_it_says(page: Page) -> None:
    buttons = page.locator("button.number[data-gallery]")
    assert buttons.count() > 20
    wrong = page.evaluate(
        """() => [...document.querySelectorAll("button.number[data-gallery]")].map(button => {
          button.click();
          const title = document.getElementById("gallery-title").textContent;
          const count = document.querySelectorAll("#gallery-photos li").length;
          document.getElementById("close").click();
          const number = Number(button.textContent.match(/\\d+/)[0]);
          return number === count && title.includes(`(${number})`) ? null : [title, number, count];
        }).filter(Boolean)"""
    )
    assert not wrong


def test_links_to_photos_lead_to_the_files(page: Page) -> None:
    links = page.evaluate(
        "JSON.parse(document.getElementById('data').textContent).photos.map(p => p.link)"
    )
    paths = {unquote_to_bytes(urlsplit(link).path).decode() for link in links}
    assert any("\x1b" in path for path in paths)
    assert all(Path(path).is_file() for path in paths)


# Keyboard


def test_the_keyboard_opens_and_closes_a_gallery(page: Page) -> None:
    cell = confused(page)
    name = cell.get_attribute("aria-label")
    page.locator("table.matrix button").first.focus()
    for _ in range(12):
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == name:
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#gallery")
    expect(dialog).to_be_visible()
    assert page.evaluate("document.getElementById('gallery').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == name


def test_the_first_tab_skips_the_navigation(page: Page) -> None:
    page.keyboard.press("Tab")
    link = page.locator("a.skip")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#next-title")).to_be_in_viewport()


def test_what_has_the_focus_can_be_seen(page: Page) -> None:
    """Each of the first stops of the Tab key has an outline."""
    for _ in range(30):
        page.keyboard.press("Tab")
        style = page.evaluate(
            "(() => { const s = getComputedStyle(document.activeElement);"
            " return s.outlineStyle === 'none' ? 0 : parseFloat(s.outlineWidth) })()"
        )
        assert style >= 1, page.evaluate("document.activeElement.outerHTML")


# Text of others


def test_labels_and_names_are_text(browser: Browser, report: Path) -> None:
    dialogs: list[str] = []
    with open_page(browser, report) as opened:
        page = opened.page
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page.evaluate(
            "document.querySelectorAll('button[data-gallery]').forEach(button => button.click())"
        )
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("script").count() == 2
        rows = page.locator("#classes table").first.locator("tbody th").all_inner_texts()
        assert rows == sorted(CLASSES)
        names = page.evaluate(
            "JSON.parse(document.getElementById('data').textContent).photos.map(p => p.name)"
        )
        assert f"{TAG}/<script>alert(2)<.png" in names
        assert f"{TAG}/\\x1b[31mred\\x1b]0;title\\x07.png" in names
        assert f"{TAG}/\\u202egnp.png" in names
        assert f"{TAG}/two\\nlines.png" in names
        assert not opened.problems
    assert not dialogs
    text = report.read_text("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)


# Ticks


def test_ticked_photos_become_a_list_that_the_doctor_takes(
    page: Page, report: Path, invoke: Invoke, tmp_path: Path
) -> None:
    bar, run, cut = page.locator("#list"), report.parent, report.parents[1] / "photos" / LONG / CUT
    expect(bar).to_be_hidden()
    finding = page.locator("details.finding", has_text="cannot be read")
    finding.get_by_role("button", name="Tick the").click()
    box = finding.locator("input[type=checkbox]").first
    expect(box).to_be_checked()
    expect(bar).to_contain_text("1 photo ticked")
    expect(bar).to_contain_text("--apply")
    with page.expect_download() as download:
        bar.get_by_role("button", name="Save the list").click()
    saved = Path(shutil.copy(download.value.path(), tmp_path / "list.txt"))
    assert saved.read_text("utf-8").count("\n") == 1
    quarantine = ("--quarantine", tmp_path / "aside")
    result = invoke("doctor", run, "--apply", saved, *quarantine)
    try:
        assert result.exit_code == 0, result.output
        assert not cut.exists()
        assert (tmp_path / "aside" / LONG / CUT).exists()
    finally:
        invoke("doctor", run, "--undo", *quarantine)
    assert cut.exists()
    bar.get_by_role("button", name="Untick all").click()
    expect(bar).to_be_hidden()
    expect(box).not_to_be_checked()


def test_the_list_can_be_copied(browser: Browser, report: Path) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    with open_page(browser, report, permissions=permissions) as opened:
        box = opened.page.locator("input[type=checkbox]").first
        box.check()
        opened.page.get_by_role("button", name="Copy it").click()
        expect(opened.page.get_by_role("button", name="Copied")).to_be_visible()
        assert opened.page.evaluate("navigator.clipboard.readText()") == (
            f"{box.get_attribute('data-path')}\n"
        )
