"""Find labels that look like another: same words in other letters, accents, cases or spaces."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence

_LATIN_LIKE = str.maketrans(
    "АВЕКМНОРСТХУІЈЅаеорсухіјѕԁһӏΑΒΕΖΗΙΚΜΝΟΡΤΥΧον",  # noqa: RUF001
    "ABEKMHOPCTXYIJSaeopcyxijsdhlABEZHIKMNOPTYXov",
)
"""Cyrillic and Greek letters, and the Latin ones that they cannot be told from."""


_PLAIN_MARKS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212"), "-") | dict.fromkeys(
    map(ord, "\u2018\u2019\u02bc\u2032"), "'"
)
"""Dashes and apostrophes that programs put where a user typed the plain ones."""


def skeleton(label: str) -> str:
    """Return what is left of `label` without what the eye does not see: equal for lookalikes."""
    text = unicodedata.normalize("NFKC", label).translate(_LATIN_LIKE).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN_MARKS)
    # Format characters have no width, and a variation selector only asks for another glyph.
    visible = (c for c in text if unicodedata.category(c) != "Cf" and not "︀" <= c <= "️")
    return re.sub(r"\s+", " ", "".join(visible)).strip()


def groups(labels: Sequence[str]) -> list[list[str]]:
    """Return each group of two labels or more that look alike."""
    by_look: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        by_look[skeleton(label)].append(label)
    return [group for group in by_look.values() if len(group) > 1]


def escaped(labels: Sequence[str], part: Collection[str]) -> list[str]:
    """Return the labels in `part`; those that look like another one have quotes and escapes."""
    alike = {label for group in groups(labels) for label in group}
    return [ascii(label) if label in alike else label for label in labels if label in part]


def warnings(labels: Sequence[str]) -> list[str]:
    """Return a line for each group of labels that look alike, which shows how they differ."""
    return [
        f"labels that look alike are {len(group)} classes: "
        f"{' and '.join(map(ascii, group))} ({_difference(group)}): if they mean the same, move "
        "the photos into one folder; else rename one"
        for group in groups(labels)
    ]


_KINDS = {
    "composed and decomposed accents": lambda text: unicodedata.normalize("NFC", text),
    "full-width or other forms": lambda text: unicodedata.normalize("NFKC", text),
    "letters of other alphabets": lambda text: text.translate(_LATIN_LIKE),
    "dashes or apostrophes": lambda text: text.translate(_PLAIN_MARKS),
    "upper and lower case": str.casefold,
    "spaces": lambda text: " ".join(text.split()),
    "invisible characters": skeleton,
}
"""Ways in which labels that look alike differ, with what takes that difference away."""


def _difference(labels: Sequence[str]) -> str:
    """Return in words how labels that look alike differ."""
    left, kinds = set(labels), []
    for words, without in _KINDS.items():
        equal = {without(label) for label in left}
        if len(equal) < len(left):
            kinds.append(words)
        left = equal
    return f"they differ in {', '.join(kinds)}"
