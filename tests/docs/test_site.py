"""The site builds strictly without network; its links resolve, and every option is in it."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

import deploy.cli
import retrain.cli
from tests.docs.conftest import REPOSITORY

LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Elements for which a browser fetches something, by the attribute that holds its address."""
DOCS = REPOSITORY / "docs"


class Page(HTMLParser):
    """The anchors of a page, its links, and the addresses of what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what an element says of itself."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADING.get(tag) in values and values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(values[LOADING[tag]])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Return the pages of the site; that for unknown addresses has links for a server only."""
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_and_anchor_inside_the_site_resolves(pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or (
                anchor and target in pages and anchor not in pages[target].anchors
            ):
                broken.append(f"{path.name}: {link}")
    assert not broken
    assert sum(len(page.links) for page in pages.values()) > 100


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    loaded = [address for page in pages.values() for address in page.loaded]
    assert any("iframe-worker" in address for address in loaded)
    assert not [address for address in loaded if urlsplit(address).netloc]
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not [style for style in styles if re.search(r"url\(['\"]?(https?:)?//", style)]


def test_every_page_is_in_the_navigation(pages: dict[Path, Page], site: Path) -> None:
    index = site / "index.html"
    reached = {
        (site / urlsplit(link).path).resolve() if urlsplit(link).path else index
        for link in pages[index].links
        if not urlsplit(link).scheme
    }
    missing = {str(path.relative_to(site)) for path in set(pages) - reached}
    assert not missing


def test_the_sources_of_every_page_are_markdown(site: Path, pages: dict[Path, Page]) -> None:
    sources = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert sources == {path.relative_to(site) for path in pages}


def all_commands(command: click.Command, ctx: click.Context) -> Iterator[click.Context]:
    """Yield the context of a command, and of each command in it."""
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            member = command.get_command(ctx, name)
            assert member
            yield from all_commands(member, click.Context(member, info_name=name, parent=ctx))


def program(group: click.Group, name: str) -> list[click.Context]:
    ctx = click.Context(group, info_name=name, **group.context_settings)
    return list(all_commands(group, ctx))


PROGRAMS = [
    *program(retrain.cli.commands, "retrain"),
    *program(deploy.cli.commands, "python -m deploy"),
]


@pytest.mark.parametrize("ctx", PROGRAMS, ids=lambda ctx: ctx.command_path.replace(" ", "-"))
def test_every_option_is_in_the_reference(
    ctx: click.Context, pages: dict[Path, Page], site: Path
) -> None:
    page = pages[site / "reference/cli.html"]
    command = ctx.command_path.replace(" ", "-").replace("--", "-")
    assert command in page.anchors
    options = [item for item in ctx.command.get_params(ctx) if isinstance(item, click.Option)]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    described = {
        name
        for option in options
        if f"{command}-{max(option.opts, key=len).strip('-')}" in page.anchors
        for name in (*option.opts, *option.secondary_opts)
    }
    assert names == described
    assert "--help" in names
    assert not [option.name for option in options if not option.help]
    assert all(name in page.text for name in names)


def test_the_reference_shows_groups_and_limits(pages: dict[Path, Page], site: Path) -> None:
    text = pages[site / "reference/cli.html"].text
    assert "<strong>Rarely used</strong>" in text
    assert "[default: 0.0; 0&lt;=x&lt;1]" in text
    assert "Sentinel" not in text
