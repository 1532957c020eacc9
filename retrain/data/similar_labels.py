"""Find labels that look alike: the same words in other letters, accents, cases or spaces."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

_LATIN_LIKE = str.maketrans(
    "АВЕКМНОРСТХУІЈЅаеорсухіјѕԁһӏΑΒΕΖΗΙΚΜΝΟΡΤΥΧον",  # noqa: RUF001
    "ABEKMHOPCTXYIJSaeopcyxijsdhlABEZHIKMNOPTYXov",
)
"""Cyrillic and Greek letters, and the Latin letters that look the same."""

_PLAIN_MARKS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212"), "-") | dict.fromkeys(
    map(ord, "\u2018\u2019\u02bc\u2032"), "'"
)
"""Dashes and apostrophes that programs insert for the plain ones that a user typed."""


def skeleton(label: str) -> str:
    """Return `label` without the differences that the eye does not see: equal for lookalikes."""
    text = unicodedata.normalize("NFKC", label).translate(_LATIN_LIKE).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN_MARKS)
    # Format characters have no width, and a variation selector only asks for another glyph.
    visible = (c for c in text if unicodedata.category(c) != "Cf" and not "︀" <= c <= "️")
    return re.sub(r"\s+", " ", "".join(visible)).strip()


def lookalike_groups(labels: Sequence[str]) -> list[list[str]]:
    """Return the groups of two or more labels that look alike."""
    by_skeleton: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        by_skeleton[skeleton(label)].append(label)
    return [group for group in by_skeleton.values() if len(group) > 1]


def escape_lookalikes(labels: Sequence[str], chosen: Collection[str]) -> list[str]:
    """Return the `chosen` ones of `labels`; those with a lookalike get quotes and escapes."""
    lookalikes = {label for group in lookalike_groups(labels) for label in group}
    return [ascii(label) if label in lookalikes else label for label in labels if label in chosen]


def warnings(labels: Sequence[str]) -> list[str]:
    """Return a line for each group of lookalikes that says how they differ."""
    return [
        f"labels that look alike are {len(group)} classes: "
        f"{' and '.join(map(ascii, group))} ({_difference(group)}): if they mean the same, move "
        "the photos into one folder; else rename one"
        for group in lookalike_groups(labels)
    ]


_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "composed and decomposed accents": lambda text: unicodedata.normalize("NFC", text),
    "full-width or other forms": lambda text: unicodedata.normalize("NFKC", text),
    "letters of other alphabets": lambda text: text.translate(_LATIN_LIKE),
    "dashes or apostrophes": lambda text: text.translate(_PLAIN_MARKS),
    "upper and lower case": str.casefold,
    "spaces": lambda text: " ".join(text.split()),
    "invisible characters": skeleton,
}
"""The differences between lookalikes, each with a function that removes it."""


def _difference(labels: Sequence[str]) -> str:
    """Return in words how lookalikes differ."""
    distinct, names = set(labels), []
    for name, remove in _DIFFERENCES.items():
        reduced = {remove(label) for label in distinct}
        if len(reduced) < len(distinct):
            names.append(name)
        distinct = reduced
    return f"they differ in {', '.join(names)}"
