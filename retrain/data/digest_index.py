"""Find rows by their digests in sorted arrays: 16 bytes a row, where a dict takes 150."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

DIGEST_BYTES = 32

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


class DigestIndex:
    """The order of `digests`, uint8 (N, 32), which it keeps; any of them may occur again.

    `order` is int64 (N,): the numbers of the rows in the order of their digests, equal ones in
    the order of their numbers. `repeats` are the places in `order` of rows whose digest is that of
    the row before.
    """

    def __init__(self, digests: Bytes) -> None:
        self._digests = digests
        words = _first_words(digests)
        self.order: Numbers = np.argsort(words, kind="stable")
        self.repeats: Numbers = np.empty(0, np.int64)
        self._words = words[self.order]
        shared = self._words[1:] == self._words[:-1]
        if shared.any():  # of equal digests, or of an accident that nobody will see
            tied = np.append(shared, False) | np.insert(shared, 0, False)
            rows = self.order[tied]
            # Each run of equal first words keeps its place: the first words sort first.
            self.order[tied] = rows[np.lexsort((rows, *_words_of(digests[rows])))]
            places = np.flatnonzero(shared)
            pairs = digests[self.order[places]] == digests[self.order[places + 1]]
            self.repeats = places[pairs.all(axis=1)] + 1

    def first(self) -> Numbers:
        """Return int64 (N,): for each row the number of the first row with the same digest."""
        first: Numbers = np.arange(len(self.order))
        if len(self.repeats):
            is_repeat = np.zeros(len(self.order), bool)
            is_repeat[self.repeats] = True
            start = np.maximum.accumulate(np.where(is_repeat, 0, np.arange(len(first))))
            first[self.order] = self.order[start]
        return first

    def find(self, digests: Bytes) -> Numbers:
        """Return int64 (M,): the number of the first row with each of these digests, -1 without."""
        numbers = np.full(len(digests), -1)
        if not len(self.order):
            return numbers
        words = _first_words(digests)
        places = np.searchsorted(self._words, words)
        searching = np.flatnonzero(places < len(self.order))
        while len(searching):  # once, but for rows that share their first word
            rows = self.order[places[searching]]
            is_same_word = self._words[places[searching]] == words[searching]
            is_same = is_same_word & (self._digests[rows] == digests[searching]).all(axis=1)
            numbers[searching[is_same]] = rows[is_same]
            searching = searching[is_same_word & ~is_same]
            places[searching] += 1
            searching = searching[places[searching] < len(self.order)]
        return numbers


def of_bytes(digests: Sequence[bytes]) -> Bytes:
    """Return `digests` of 32 bytes each as uint8 (N, 32)."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), DIGEST_BYTES)


def to_list(digests: Bytes) -> list[bytes]:
    """Return digests, uint8 (N, 32), as N values of 32 bytes."""
    values: list[bytes] = np.ascontiguousarray(digests).view(f"V{DIGEST_BYTES}").ravel().tolist()
    return values


def of_column(digests: pa.ChunkedArray) -> Bytes:
    """Return a column of binary values of 32 bytes as uint8 (N, 32), without copying if it can."""
    array = pc.cast(digests, pa.binary(DIGEST_BYTES)).combine_chunks()
    content = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    start, size = DIGEST_BYTES * array.offset, DIGEST_BYTES * len(array)
    return content[start : start + size].reshape(-1, DIGEST_BYTES)


def _first_words(digests: Bytes) -> npt.NDArray[np.uint64]:
    words = np.ascontiguousarray(digests[:, :8]).view(">u8").ravel()
    return np.asarray(words, np.uint64)


def _words_of(digests: Bytes) -> tuple[npt.NDArray[np.uint64], ...]:
    """Return the words of digests, the last one first, as `np.lexsort` takes its keys."""
    words = np.ascontiguousarray(digests).view(">u8")
    return tuple(words[:, place].astype(np.uint64) for place in reversed(range(words.shape[1])))
