"""Read a report page in tests: its texts, its numbers and the photos behind them."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

_VOID = {"meta", "img", "br", "input", "link", "hr"}


@dataclass
class Element:
    """An element: its name, attributes, text with that of its children, and place."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class _Reader(HTMLParser):
    """Collects the elements of a page."""

    elements: list[Element] = field(default_factory=list)
    opened: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in _VOID:
            self.opened.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self.opened and self.opened.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self.opened:
            element.text += data


@dataclass(frozen=True)
class Page:
    """A report page."""

    html: str

    @classmethod
    def read(cls, folder: Path) -> "Page":
        """Return the page of a run folder."""
        return cls((folder / "report.html").read_text("utf-8"))

    @cached_property
    def elements(self) -> list[Element]:
        """All elements, in the order of the page."""
        reader = _Reader()
        reader.feed(self.html)
        return reader.elements

    def named(self, tag: str) -> list[Element]:
        """Return the elements `tag`."""
        return [element for element in self.elements if element.tag == tag]

    def with_attribute(self, name: str) -> list[Element]:
        """Return the elements that have the attribute."""
        return [element for element in self.elements if name in element.attributes]

    @cached_property
    def data(self) -> Any:
        """The photos and galleries that the page's program reads."""
        (script,) = (
            element
            for element in self.named("script")
            if element.attributes.get("type") == "application/json"
        )
        return json.loads(script.text)

    def gallery(self, title: str) -> list[Any]:
        """Return the photos of the gallery called `title`."""
        (gallery,) = (item for item in self.data["galleries"] if item["title"] == title)
        return [self.data["photos"][number] for number in gallery["photos"]]
