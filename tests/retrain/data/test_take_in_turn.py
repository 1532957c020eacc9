"""Photos are taken from each class in turn, as long as it has some."""

from pathlib import Path

from retrain.data.photo import Photo
from retrain.data.take_in_turn import take_in_turn


def photo(label: str, number: int) -> Photo:
    return Photo(Path(label, str(number)), label, bytes([number]) * 32)


def test_each_class_gives_one_in_turn_until_it_has_no_more() -> None:
    photos = [photo("b", 1), photo("a", 2), photo("b", 3), photo("b", 4), photo("a", 5)]
    order = [(chosen.label, chosen.digest[0]) for chosen in take_in_turn(photos, 9)]
    assert order == [("b", 1), ("a", 2), ("b", 3), ("a", 5), ("b", 4)]
    assert take_in_turn(photos, 2) == photos[:2]
    assert take_in_turn([], 2) == []
