"""Define a photo of a data set, and a file that should be one."""

import hashlib
import os
from dataclasses import dataclass
from typing import NamedTuple

from deploy.errors import BadData
from retrain.data.remote_path import PhotoPath, read_photo


@dataclass(frozen=True)
class Photo:
    """A photo: its path, its label, and its digest, the SHA-256 of its bytes.

    `split` is the split of its folder; it is empty unless the folders are of splits.
    """

    path: PhotoPath
    label: str
    digest: bytes
    split: str = ""

    def read(self) -> bytes:
        """Return the photo's bytes; raise BadData if they no longer have its digest."""
        try:
            content = read_photo(self.path)
        except OSError as error:
            raise BadData(f"{self.path}: cannot be read ({error.strerror}): train again") from error
        if hashlib.sha256(content).digest() != self.digest:
            raise BadData(f"{self.path}: changed since training: train again")
        return content


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return `path` as text that any file takes: a byte that is not UTF-8 is written as `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class BadPhoto:
    """A file that should be a photo of the data set, and the reason why it cannot be used.

    `twin` is the same photo in another class, if that is the reason. `label` is its label, "" if it
    is not known.
    """

    path: PhotoPath
    reason: str
    twin: PhotoPath | None = None
    label: str = ""


class ExactCopy(NamedTuple):
    """A photo that is passed over, and the `original`, of the same bytes, that is used."""

    photo: Photo
    original: Photo
