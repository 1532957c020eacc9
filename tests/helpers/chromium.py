"""Open pages from disk in the system's Chromium, without a download of a browser."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

DESKTOP, PHONE = 1280, 375
"""Widths of a window, in pixels."""
NO_CHROMIUM = "no Chromium on this machine: apt-get install chromium"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Return the path of the system's Chromium, None without one."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


@contextmanager
def start_chromium(program: str) -> Iterator[Browser]:
    """Start `program` without a window, and end it."""
    with sync_playwright() as playwright:
        # No sandbox is possible for root, and only pages of ours are opened.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Opened:
    """A page that is open; `problems` it reported and addresses it asked for, until now."""

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """The width of the whole page in pixels; above that of the window it scrolls sideways."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth")
        return width


@contextmanager
def open_page(
    browser: Browser, path: Path, width: int = DESKTOP, **options: Any
) -> Iterator[Opened]:
    """Open the file `path` in a window of that width; `options` are those of Playwright."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        is_mobile=width < 600,
        reduced_motion="reduce",  # a click waits for no scrolling
        **options,
    )
    opened = Opened(context.new_page())
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.page.on(
        "console",
        lambda message: (
            opened.problems.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    opened.page.goto(path.as_uri())
    try:
        yield opened
    finally:
        context.close()
