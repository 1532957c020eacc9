"""A count has its noun, and its verb, in the form of one or of several things."""

import pytest

from deploy.system.counts import with_noun


@pytest.mark.parametrize(
    ("noun", "several"),
    [
        ("photo", "photos"),
        ("exact copy", "exact copies"),
        ("class", "classes"),
        ("box", "boxes"),
        ("epoch", "epochs"),
        ("batch", "batches"),
    ],
)
def test_a_noun_has_the_form_of_its_count(noun: str, several: str) -> None:
    assert with_noun(1, noun) == f"1 {noun}"
    assert with_noun(0, noun) == f"0 {several}"
    assert with_noun(2000, noun) == f"2,000 {several}"


def test_a_verb_has_the_form_of_its_count() -> None:
    assert with_noun(1, "file", "is/are") == "1 file is"
    assert with_noun(2, "file", "is/are") == "2 files are"
