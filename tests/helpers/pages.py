"""The README and the pages of the site: their code blocks, their sentences."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIALS = [ROOT / "docs/tutorials" / f"{name}.md" for name in ("first-model", "raspberry-pi")]

_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A block of commands or Python, and the text that it prints; None if none is shown."""

    page: str
    line: int
    language: str
    code: str
    output: str | None
    on_device: bool

    def __str__(self) -> str:
        """Return the page and line, for the name of a test."""
        return f"{self.page}:{self.line}"


def examples(path: Path) -> list[Example]:
    """Return the `sh` and `python` blocks of a page; a `text` block belongs to the one before."""
    text = path.read_text("utf-8")
    blocks = [*_BLOCK.finditer(text)]
    outputs = [match[3] if match[1] == "text" else None for match in blocks[1:]] + [None]
    return [
        Example(
            path.name,
            text.count("\n", 0, match.start()) + 1,
            match[1],
            match[3],
            output,
            'title="On the Pi"' in match[2],
        )
        for match, output in zip(blocks, outputs, strict=False)
        if match[1] in ("sh", "python")
    ]


def sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each sentence of a page and whether it is running text, not a cell of a table.

    Code blocks and headings hold none. A piece of code in a line counts as a word, and so does an
    address.
    """
    text = re.sub(r"^```.*?^```$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "`code`", text)
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        stripped = line.strip()
        begins = re.match(r"([-*]|\d+\.) |\||#|!!!", stripped)
        if begins or not stripped:
            yield from ((sentence, True) for sentence in _split(" ".join(paragraph)))
            paragraph = []
        if stripped.startswith("|"):
            cells = [cell.strip() for cell in stripped.strip("|").split("|")]
            yield from ((part, False) for cell in cells for part in _split(cell))
        elif stripped and not stripped.startswith(("#", "!!!")):
            paragraph.append(re.sub(r"^([-*]|\d+\.) ", "", stripped))


def _split(paragraph: str) -> list[str]:
    parts = re.split(r"(?<=[.!?])[*_)\"]*\s+(?=[\"*_(`]*[A-Z0-9`])", paragraph)
    return [part for part in parts if re.search(r"\w", part)]
