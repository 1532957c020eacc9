"""Draw the rows of a round from blocks of a file that is larger than memory.

Ten million bottlenecks of 1,280 values take 26 GB. Rows drawn at random from all of them are reads
of 2.5 kB each, all over the file: an SSD takes a tenth of a millisecond for one, a disk ten. So a
round reads blocks of up to 1 MiB in the order of the file, 256 MiB in all, and draws its batches
from these: at the speed of reading a file from its beginning to its end.

A block holds neighbours, photos that were analysed together, often of one class. So blocks are
drawn class first, then photo, as the items of a batch are. A class that still has too few rows for
the draws of the round gets single ones, from anywhere. Each round draws other blocks.
"""

import numpy as np

from retrain.bottlenecks.feature_store import POOL_BYTES, FeatureStore, RowsInMemory
from retrain.training.head import Examples, Ints

_BLOCK_BYTES = 1 << 20
_MIN_BLOCKS_PER_CLASS = 2
_SINGLE_SHARE = 0.25
"""The largest share of the pool's size that single rows take beside the blocks."""


class ByClass:
    """The photos of `examples` in order of their `classes` labels, to draw class first."""

    def __init__(self, examples: Examples, classes: int) -> None:
        self.examples = examples
        self.counts = np.bincount(examples.labels, minlength=classes)
        self._order = np.argsort(examples.labels, kind="stable")
        self._starts = np.cumsum(self.counts) - self.counts

    def draw(self, labels: Ints, random: np.random.Generator) -> Ints:
        """Return the row of a random photo and view of each of `labels`, int64 of any shape."""
        photos = self._order[self._starts[labels] + random.integers(self.counts[labels])]
        rows = self.examples.rows
        return np.asarray(rows[photos, random.integers(rows.shape[1], size=photos.shape)])


class BlockPool:
    """The `training` examples, in the file of `store`, of which each round reads some blocks.

    It holds the label of each row: 4 bytes.
    """

    def __init__(self, training: ByClass, store: FeatureStore) -> None:
        self._store = store
        self._by_class = training
        self._views = training.examples.rows.shape[1]
        self._label_of_row = np.full(store.row_count, -1, np.int32)
        for view in training.examples.rows.T:
            self._label_of_row[view] = training.examples.labels
        classes = len(training.counts)
        row_bytes = 2 * store.width
        self._size = max(POOL_BYTES // row_bytes, 4 * classes)
        per_block = self._size // (_MIN_BLOCKS_PER_CLASS * classes)
        self._block_rows = max(1, min(_BLOCK_BYTES // row_bytes, per_block))

    def draw(self, draws: int, random: np.random.Generator) -> ByClass:
        """Return examples in memory for a round of so many `draws`; every class has some."""
        starts = self._blocks(random).tolist()
        counts = [min(self._block_rows, self._store.row_count - start) for start in starts]
        is_member = [
            self._label_of_row[start : start + count] >= 0
            for start, count in zip(starts, counts, strict=True)
        ]
        in_blocks = [
            start + np.flatnonzero(members)
            for start, members in zip(starts, is_member, strict=True)
        ]
        rows = np.concatenate(in_blocks)
        single = self._single_rows(rows, draws, random)
        values = np.empty((len(rows) + len(single), self._store.width), np.float16)
        block = np.empty((self._block_rows, self._store.width), np.float16)
        filled = 0
        for start, count, members in zip(starts, counts, is_member, strict=True):
            self._store.read(start, block[:count])
            size = int(members.sum())
            values[filled : filled + size] = block[:count][members]
            filled += size
        for row in single.tolist():
            self._store.read(row, values[filled : filled + 1])
            filled += 1
        labels = self._label_of_row[np.concatenate([rows, single])].astype(np.int64)
        numbers = np.arange(len(values))[:, np.newaxis]
        drawn = Examples(RowsInMemory(values), numbers, labels)
        return ByClass(drawn, len(self._by_class.counts))

    def _blocks(self, random: np.random.Generator) -> Ints:
        """Return the first rows of the blocks to read, in the order of the file."""
        classes = len(self._by_class.counts)
        count = self._size // self._block_rows
        # Each class once; then more than are needed, as some are drawn twice.
        labels = np.append(random.permutation(classes), random.integers(classes, size=2 * count))
        blocks = self._by_class.draw(labels, random) // self._block_rows
        _, first = np.unique(blocks, return_index=True)
        chosen = blocks[np.sort(first)[:count]]
        return np.asarray(np.sort(chosen) * self._block_rows)

    def _single_rows(self, rows: Ints, draws: int, random: np.random.Generator) -> Ints:
        """Return rows, in order, of the classes that have too few of `rows` for the draws."""
        counts = self._by_class.counts
        classes = len(counts)
        enough = min(-(-draws // classes), int(_SINGLE_SHARE * self._size) // classes)
        present = np.bincount(self._label_of_row[rows], minlength=classes)
        lacking = np.flatnonzero(present < np.minimum(enough, counts * self._views))
        single = np.unique(self._by_class.draw(np.repeat(lacking, enough), random))
        return np.setdiff1d(single, rows, assume_unique=True)
