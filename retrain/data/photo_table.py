"""Hold photos in columns: about 110 bytes a photo, where an object of each takes 700."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from retrain.data.digest_index import Bytes, of_bytes, of_column, to_list
from retrain.data.folder_layout import SPLITS
from retrain.data.photo import Photo
from retrain.data.remote_path import PhotoPath, photo_path

_BLOCK = 4096
"""Photos that are objects at a time, while a table is made or read."""
_REWRITTEN_PATH = r"(?:^|[^:])//|/\.(?:/|$)|^\.(?:/|$)|/$|^file:"
"""A pattern of the paths that `photo_path` may write in another way."""
SPLIT_OF_CODE = ("", *SPLITS)
"""The split of each code in a column; 0 is that of a photo without one."""
_SPLIT_CODE = {name: code for code, name in enumerate(SPLIT_OF_CODE)}


class PhotoTable(Sequence[Photo]):
    """Photos as columns. A photo becomes an object only while it is used.

    `paths` holds each path as bytes (`os.fsencode`), `digests` is uint8 (N, 32). `label_numbers`
    is int32 (N,): the place of each photo's label in `label_names`, which are sorted, and of which
    some may have no photo. `split_codes` is int8 (N,): 0 without a split, else its place in SPLITS,
    from 1.
    """

    def __init__(
        self,
        paths: pa.Array,
        digests: Bytes,
        label_names: tuple[str, ...],
        label_numbers: npt.NDArray[np.int32],
        split_codes: npt.NDArray[np.int8],
    ) -> None:
        self.paths = paths
        self.digests = digests
        self.label_names = label_names
        self.label_numbers = label_numbers
        self.split_codes = split_codes

    @classmethod
    def of(cls, photos: Iterable[Photo]) -> "PhotoTable":
        """Return a table of `photos`, or `photos` itself if it is one."""
        if isinstance(photos, PhotoTable):
            return photos
        number_of: dict[str, int] = {}
        paths, digests = [pa.array([], pa.large_binary())], [np.empty((0, 32), np.uint8)]
        labels, splits = [np.empty(0, np.int32)], [np.empty(0, np.int8)]
        remaining = iter(photos)
        while block := list(islice(remaining, _BLOCK)):
            encoded = [os.fsencode(str(photo.path)) for photo in block]
            paths.append(pa.array(encoded, pa.large_binary()))
            digests.append(of_bytes([photo.digest for photo in block]))
            numbers = [number_of.setdefault(photo.label, len(number_of)) for photo in block]
            labels.append(np.array(numbers, np.int32))
            splits.append(np.array([_SPLIT_CODE[photo.split] for photo in block], np.int8))
        # By code points, as Python sorts text.
        names = tuple(sorted(number_of))
        place = np.empty(len(names), np.int32)
        place[[number_of[name] for name in names]] = np.arange(len(names))
        return cls(
            pa.concat_arrays(paths),
            np.concatenate(digests),
            names,
            place[np.concatenate(labels)],
            np.concatenate(splits),
        )

    @classmethod
    def of_arrow(cls, columns: dict[str, pa.ChunkedArray]) -> "PhotoTable":
        """Return the photos of the columns path, label, digest and split, which it takes out.

        So a column of Arrow goes as soon as its own form is there. Paths are text or bytes. Raises
        KeyError without these columns, ValueError for a photo that lacks a value, or with a split
        that is none.
        """
        if any(columns[name].null_count for name in ("path", "label", "digest", "split")):
            raise ValueError("a photo has no path, label, digest or split")
        labels = pc.cast(columns.pop("label"), pa.string()).dictionary_encode().combine_chunks()
        names = labels.dictionary.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        place = np.empty(len(names), np.int32)
        place[order] = np.arange(len(names))
        numbers = place[labels.indices.to_numpy()]
        splits = pc.cast(columns.pop("split"), pa.string())
        places = pc.index_in(splits, pa.array(SPLIT_OF_CODE, pa.string()))
        if places.null_count:
            raise ValueError(f"a split must be one of {', '.join(SPLITS)}")
        codes = places.to_numpy().astype(np.int8)
        del labels, splits, places
        digests = of_column(columns.pop("digest"))
        paths = pc.cast(columns.pop("path"), pa.large_binary()).combine_chunks()
        return cls(_normalized(paths), digests, tuple(names[i] for i in order), numbers, codes)

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.digests)

    @overload
    def __getitem__(self, selection: int) -> Photo: ...
    @overload
    def __getitem__(self, selection: slice) -> "PhotoTable": ...
    def __getitem__(self, selection: int | slice) -> "Photo | PhotoTable":
        """Return the photo of a number, or a table of some of them."""
        if isinstance(selection, slice):
            return self.take(np.arange(len(self))[selection])
        number = range(len(self))[selection]
        (photo,) = self._photos(number, number + 1)
        return photo

    def __iter__(self) -> Iterator[Photo]:
        """Yield each photo."""
        for start in range(0, len(self), _BLOCK):
            yield from self._photos(start, min(start + _BLOCK, len(self)))

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is a sequence of equal photos, in this order."""
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(photo == twin for photo, twin in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the number of photos, for tests that fail."""
        return f"<PhotoTable of {len(self)} photos>"

    def _photos(self, start: int, stop: int) -> list[Photo]:
        columns = (
            self.paths.slice(start, stop - start).to_pylist(),
            self.label_numbers[start:stop].tolist(),
            to_list(self.digests[start:stop]),
            self.split_codes[start:stop].tolist(),
        )
        return [
            Photo(
                photo_path(os.fsdecode(path)), self.label_names[label], digest, SPLIT_OF_CODE[split]
            )
            for path, label, digest, split in zip(*columns, strict=True)
        ]

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield the absolute path of each photo, its label, and its digest in hexadecimal."""
        for start in range(0, len(self), _BLOCK):
            paths = self.paths.slice(start, _BLOCK).to_pylist()
            digests = self.digests[start : start + _BLOCK].tobytes().hex()
            numbers = self.label_numbers[start : start + _BLOCK].tolist()
            for i, (path, number) in enumerate(zip(paths, numbers, strict=True)):
                text = os.fsdecode(path)
                if not text.startswith("/"):
                    text = str(photo_path(text).absolute())
                yield text, self.label_names[number], digests[64 * i : 64 * i + 64]

    def take(self, selection: npt.NDArray[Any]) -> "PhotoTable":
        """Return the photos of these numbers, int (M,), or of a mask, bool (N,)."""
        if selection.dtype == bool:
            paths = self.paths.filter(pa.array(selection))
        else:
            paths = self.paths.take(pa.array(selection, pa.int64()))
        return PhotoTable(
            paths,
            self.digests[selection],
            self.label_names,
            self.label_numbers[selection],
            self.split_codes[selection],
        )

    def relabelled(self, label_of: dict[str, str]) -> "PhotoTable":
        """Return the photos whose label is in `label_of`, with the label that it names."""
        names = tuple(sorted(set(label_of.values())))
        places = [names.index(label_of[n]) if n in label_of else -1 for n in self.label_names]
        numbers = np.array(places, np.int32)[self.label_numbers]
        table = PhotoTable(self.paths, self.digests, names, numbers, self.split_codes)
        return table if (numbers >= 0).all() else table.take(numbers >= 0)

    def label_counts(self) -> dict[str, int]:
        """Return the number of photos of each label that has one, the first photo's label first."""
        present, first, counts = np.unique(
            self.label_numbers, return_index=True, return_counts=True
        )
        return {self.label_names[present[i]]: int(counts[i]) for i in np.argsort(first)}

    def split_counts(self) -> dict[str, int]:
        """Return the number of photos in the folders of each split; "" are other folders."""
        counts = np.bincount(self.split_codes, minlength=len(SPLIT_OF_CODE)).tolist()
        return dict(zip(SPLIT_OF_CODE, counts, strict=True))

    def labels_in(self, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return int64 (N,): the place of each photo's label in `labels`.

        Raises KeyError for a photo whose label is not there.
        """
        index = {label: place for place, label in enumerate(labels)}
        places = np.array([index.get(name, -1) for name in self.label_names], np.int64)
        numbers = places[self.label_numbers]
        if len(numbers) and numbers.min() < 0:
            raise KeyError(self.label_names[self.label_numbers[numbers.argmin()]])
        return np.asarray(numbers)

    def is_at(self, paths: Iterable[PhotoPath]) -> npt.NDArray[np.bool_]:
        """Return bool (N,): whether each photo is at one of `paths`."""
        encoded = pa.array([os.fsencode(str(path)) for path in paths], pa.large_binary())
        return np.asarray(pc.is_in(self.paths, encoded).to_numpy(zero_copy_only=False))


def _normalized(paths: pa.Array) -> pa.Array:
    """Return paths as `photo_path` writes them: without // and the like."""
    is_odd = pc.match_substring_regex(paths, _REWRITTEN_PATH)
    odd = [
        os.fsencode(str(photo_path(os.fsdecode(path)))) for path in paths.filter(is_odd).to_pylist()
    ]
    return pc.replace_with_mask(paths, is_odd, pa.array(odd, pa.large_binary())) if odd else paths
