"""Labels that look like another one are a warning that shows the difference."""

import pytest

from retrain.data.similar_labels import warnings

ALIKE = [
    ("caf\u00e9", "cafe\u0301", "accents"),
    ("Daisy", "daisy", "upper and lower case"),
    ("stra\u00dfe", "STRASSE", "upper and lower case"),
    ("daisy", "daisy ", "spaces"),
    ("red rose", "red  rose", "spaces"),
    ("red rose", "red\u00a0rose", "full-width or other forms"),
    ("rose", "\uff52\uff4f\uff53\uff45", "full-width or other forms"),
    ("fig", "\ufb01g", "full-width or other forms"),
    ("rose", "ro\u200bse", "invisible"),
    ("rose", "ro\u00adse", "invisible"),
    ("rose", "r\u043ese", "letters of other alphabets"),
    ("\u0391pple", "Apple", "letters of other alphabets"),
    ("red-rose", "red\u2010rose", "dashes or apostrophes"),
    ("lion's paw", "lion\u2019s paw", "dashes or apostrophes"),
    ("\u2600", "\u2600\ufe0f", "invisible"),
]


@pytest.mark.parametrize(("first", "second", "difference"), ALIKE)
def test_labels_that_look_alike_are_shown_escaped(first: str, second: str, difference: str) -> None:
    (line,) = warnings([first, "something else", second])
    assert ascii(first) in line
    assert ascii(second) in line
    assert difference in line


def test_every_kind_of_difference_is_named() -> None:
    (line,) = warnings(["Daisy", "daisy", "daisy "])
    assert "3 classes: 'Daisy' and 'daisy' and 'daisy ' " in line
    assert "upper and lower case, spaces" in line


def test_labels_that_can_be_told_apart_are_no_warning() -> None:
    labels = [
        "rose",
        "roses",
        "ros\u00e9",
        "red_rose",
        "red-rose",
        "1",
        "l",
        "\u0440\u043e\u0437\u0430",
    ]
    assert warnings(labels) == []
