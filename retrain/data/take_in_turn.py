"""Choose photos so that each class has as many as any other."""

from collections.abc import Iterable

from retrain.data.photo import Photo


def take_in_turn(photos: Iterable[Photo], count: int) -> list[Photo]:
    """Return at most `count` of `photos`, one of each class in turn.

    The classes come in the order of their first photos, and each class's photos in their order.
    """
    by_label: dict[str, list[Photo]] = {}
    for photo in photos:
        by_label.setdefault(photo.label, []).append(photo)
    columns = by_label.values()
    rows = range(max((len(column) for column in columns), default=0))
    in_turn = (column[row] for row in rows for column in columns if row < len(column))
    return [photo for photo, _ in zip(in_turn, range(count), strict=False)]
