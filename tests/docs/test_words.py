"""README and tutorials stay short enough to be read."""

from pathlib import Path

import pytest

from tests.docs.words import count
from tests.helpers.pages import README, TUTORIALS, sentences

MAX_MEDIAN, MAX_SENTENCE = 16, 35
MAX_README_LINES, MAX_README_WORDS = 150, 1200


def test_the_readme_is_short() -> None:
    page = count(README)
    assert page.lines <= MAX_README_LINES
    assert page.words <= MAX_README_WORDS


@pytest.mark.parametrize("path", [README, *TUTORIALS], ids=lambda path: path.name)
def test_sentences_are_short(path: Path) -> None:
    page = count(path)
    assert page.median <= MAX_MEDIAN
    assert page.longest <= MAX_SENTENCE, page.longest_sentence


def test_a_sentence_ends_at_a_stop_a_list_item_and_a_cell() -> None:
    text = "# A head\n\nOne `a b c` two.\nThree [four](x.md) five\n\n- six\n- seven. Eight\n"
    text += "\n| a. b | c |\n\n```sh\nno\n```\n"
    assert [*sentences(text)] == [
        ("One `code` two.", True),
        ("Three four five", True),
        ("six", True),
        ("seven.", True),
        ("Eight", True),
        ("a. b", False),
        ("c", False),
    ]
