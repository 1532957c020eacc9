"""Print how long README and tutorials are: `python -m tests.docs.words`, for other pages too."""

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.pages import README, TUTORIALS, sentences


@dataclass(frozen=True)
class Words:
    """Lines and words of a page, and the words of its sentences."""

    lines: int
    words: int
    median: float
    longest: int
    longest_sentence: str


def count(path: Path) -> Words:
    """Count the words of a page; cells of tables count for the longest sentence only."""
    text = path.read_text("utf-8")
    parts = [*sentences(text)]
    running = [len(sentence.split()) for sentence, is_running in parts if is_running]
    longest = max((sentence for sentence, _ in parts), key=lambda sentence: len(sentence.split()))
    return Words(
        len(text.splitlines()),
        len(text.split()),
        statistics.median(running),
        len(longest.split()),
        longest,
    )


def main(paths: list[Path]) -> None:
    """Print a line a page."""
    print(f"{'page':28} lines  words  median  longest sentence")
    for path in paths:
        page = count(path)
        figures = f"{page.lines:5}  {page.words:5}  {page.median:6g}  {page.longest:7}"
        print(f"{path.name:28} {figures}  {page.longest_sentence[:60]}")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]] or [README, *TUTORIALS])
