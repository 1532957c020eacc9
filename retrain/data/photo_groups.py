"""Find the photos that a split must keep together: copies, and shots of one thing."""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from retrain.data.digest_index import Bytes, DigestIndex, of_bytes
from retrain.data.photo import Photo
from retrain.data.photo_table import PhotoTable

_BLOCK = 4096
"""Photos that are hashed at a time."""
_GROUP_MARK = "_nohash_"


class Groups:
    """The groups of `photos` that must stay together.

    `leaders` is int64 (N,): the number of the first photo in each photo's group. A group's key is
    the name before `_nohash_` that its photos share, otherwise the digest of its photo.
    """

    def __init__(self, photos: PhotoTable) -> None:
        self.photos = photos
        self.leaders = DigestIndex(photos.digests).first()
        marked = pc.match_substring(photos.paths, _GROUP_MARK).to_numpy(zero_copy_only=False)
        numbers, subjects = [], []
        for start in range(0, len(photos), _BLOCK):
            block = start + np.flatnonzero(marked[start : start + _BLOCK])
            keys = [self._subject(photo) for photo in photos.take(block)] if len(block) else []
            numbers.append(block[[key is not None for key in keys]])
            subjects.append(pa.array([key for key in keys if key is not None], pa.large_binary()))
        self._named = np.concatenate([np.empty(0, np.int64), *numbers])
        if len(self._named):
            codes = pa.concat_arrays(subjects).dictionary_encode().indices.to_numpy()
            first = np.empty(codes.max() + 1, np.int64)
            first[codes[::-1]] = self._named[::-1]  # the last assignment counts
            self.leaders[self._named] = first[codes]
            self._lead_unnamed()

    def _lead_unnamed(self) -> None:
        """Let no named photo lead the copies of it that have no such name."""
        is_named = np.zeros(len(self.photos), bool)
        is_named[self._named] = True
        unnamed = np.flatnonzero(~is_named)
        self.leaders[unnamed] = unnamed[DigestIndex(self.photos.digests[unnamed]).first()]

    def hashes(self, prefix: bytes, numbers: npt.NDArray[np.int64]) -> Bytes:
        """Return uint8 (M, 32): the SHA-256 of `prefix` and the key of these photos' groups."""
        is_named = np.isin(numbers, self._named)
        hashes = []
        for start in range(0, len(numbers), _BLOCK):
            block = numbers[start : start + _BLOCK]
            content = self.photos.digests[block].tobytes()
            keys = [content[i : i + 32] for i in range(0, len(content), 32)]
            for i in np.flatnonzero(is_named[start : start + _BLOCK]).tolist():
                keys[i] = self.key(int(block[i]))
            hashes.append(of_bytes([hashlib.sha256(prefix + key).digest() for key in keys]))
        return np.concatenate([np.empty((0, 32), np.uint8), *hashes])

    def key(self, number: int) -> bytes:
        """Return the key of the group of a photo."""
        photo = self.photos[number]
        subject = self._subject(photo)
        return photo.digest if subject is None else subject

    def positions(self, salt: str) -> npt.NDArray[np.float64]:
        """Return float64 (N,): a number of 0..100 for each leader, uniform over keys.

        It is above 100 for the other photos.
        """
        positions = np.full(len(self.photos), np.inf)
        numbers = np.flatnonzero(self.leaders == np.arange(len(self.leaders)))
        hashes = self.hashes(salt.encode() + b"\0", numbers)
        words = np.ascontiguousarray(hashes[:, :8]).view(">u8").ravel()
        positions[numbers] = words.astype(np.float64) / 2**64 * 100
        return positions

    def labels(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return each leader and label of its group, int64 (P,) both, in order of the leaders."""
        count = max(1, len(self.photos.label_names))
        pairs = np.unique(self.leaders * count + self.photos.label_numbers)
        return np.divmod(pairs, count)

    @staticmethod
    def _subject(photo: Photo) -> bytes | None:
        subject, separator, _ = photo.path.name.partition(_GROUP_MARK)
        return subject.encode(errors="surrogateescape") if separator else None
