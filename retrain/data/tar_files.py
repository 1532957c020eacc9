"""List the photos in tar files of WebDataset's layout: `7.jpg` beside `7.cls` or `7.json`.

The members of one photo stand together and have one name up to the first dot. `.cls` holds the
label, or its number, as text; `.json` an object with `label`. A tar file is read once, from its
beginning to its end; a photo is read again by its bytes alone.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import pyarrow as pa

from deploy.contract import check_label
from deploy.errors import BadData
from deploy.image import HEAD, MAX_PHOTO_BYTES
from deploy.system.cores import cores
from deploy.user_files import is_user_file
from retrain.data import store
from retrain.data.folder_layout import ClassFolder
from retrain.data.listed import Listed, to_batch, why_left_out
from retrain.data.read_ahead import read_ahead
from retrain.data.remote_path import PhotoPath, RemotePath, look, url_of
from retrain.data.scan_parts import ScanParts
from retrain.tar_members import tar_members

_MAX_LABEL_BYTES = 1024**2
_LINK = "a link, and links in tar files are not followed"
_NO_LABEL = (
    "it has no label: no {name}.cls, and no {name}.json with `label`, is beside it: if the folders "
    "in the tar file are the classes, unpack it"
)


@dataclass(frozen=True)
class TarFiles:
    """The photos in tar files at paths or URLs, as a source; `root` is what the user named."""

    root: PhotoPath
    files: tuple[PhotoPath, ...]
    classes: tuple[ClassFolder, ...] | None = None
    all_claim: bool = False

    def batches(self, last: ScanParts) -> Iterator[pa.RecordBatch]:
        """Yield the photos of each tar file as one batch, with their digests.

        A file that cannot be read is a row with the reason; so is one that is cut off, after its
        whole members. Else the last row, which is no photo, says that the file was read to its end.
        """
        readers = cores() + 4
        with ThreadPoolExecutor(readers) as pool:
            yield from read_ahead(pool, partial(_read_tar, last), self.files, readers)

    def remarks(self) -> tuple[str, ...]:
        """Return no warnings."""
        return ()


class _Member(NamedTuple):
    """A member of a tar file: its name, its first byte in the file, and the byte after its last.

    Of a photo, `digest` is that of its bytes, or `reason` says why it is none; of a label, `text`.
    """

    name: str
    start: int
    end: int
    digest: bytes | None = None
    reason: str | None = None
    text: bytes | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What the members of one photo have in common."""
        path = PurePosixPath(self.name)
        return str(path.parent), path.name.partition(".")[0]

    @property
    def kind(self) -> str:
        """The name from its first dot on, in lower case."""
        return PurePosixPath(self.name).name.partition(".")[2].lower()


def _read_tar(last: ScanParts, tar: PhotoPath) -> pa.RecordBatch:
    """Return the rows of a tar file, from the last scan if it did not change."""
    path = os.fsencode(url_of(tar))
    try:
        facts = look(tar)
        size, version = facts.size, facts.version
        if size and version:
            rows = last.rows_of_tar(path, size, version)
            if rows is not None:
                return rows
        rows = list(_rows(tar, version))
    except OSError as error:
        return to_batch([Listed(path, "", reason=f"cannot be read ({error.strerror})")])
    if all(row.path != path for row in rows):
        rows.append(Listed(path, "", size=size, version=version, reason=""))
    return to_batch(rows)


def _rows(tar: PhotoPath, version: str) -> Iterator[Listed]:
    """Yield a row for each photo of a tar file."""
    with _open(tar) as stream:
        damage: list[str] = []
        for (_, name), members in groupby(
            _whole_members(stream, damage), lambda member: member.key
        ):
            yield from _photos(tar, name, members, version)
        for problem in damage:
            reason = f"not a whole tar file ({problem}): what follows the damage is left out"
            yield Listed(os.fsencode(url_of(tar)), "", reason=reason)


@contextmanager
def _open(tar: PhotoPath) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        if isinstance(tar, Path):
            yield stack.enter_context(tar.open("rb"))
        else:
            stack.enter_context(store.reading(str(tar)))
            yield stack.enter_context(store.open_stream(str(tar)))


def _whole_members(stream: IO[bytes], damage: list[str]) -> Iterator[_Member]:
    """Yield the members up to the first damage, which is added to `damage`."""
    try:
        yield from _members(stream)
    except (tarfile.TarError, EOFError) as error:
        damage.append(str(error))


def _members(stream: IO[bytes]) -> Iterator[_Member]:
    """Yield the photos and labels of a tar file, in order; raise TarError where it is damaged."""
    for info in tar_members(stream):
        is_link = info.issym() or info.islnk()
        is_readable = info.isreg() or is_link
        if not is_readable or not all(map(is_user_file, PurePosixPath(info.name).parts)):
            continue
        start, end = info.offset_data, info.offset_data + info.size
        member = _Member(info.name, start, end)
        stream.seek(start)
        if member.kind in ("cls", "json"):
            text = _read(stream, min(info.size, _MAX_LABEL_BYTES))
            yield member._replace(text=text)
        else:
            content = _read(stream, HEAD if info.size > MAX_PHOTO_BYTES else info.size)
            yield from _photo(member, content, _LINK if is_link else None)


def _read(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _photo(member: _Member, content: bytes, problem: str | None) -> Iterator[_Member]:
    """Yield a member that is a photo, or claims to be one."""
    size = member.end - member.start
    reason = why_left_out(Path(member.name), content[:HEAD], size, problem=problem)
    if reason is None:
        yield member._replace(digest=hashlib.sha256(content).digest())
    elif reason:
        yield member._replace(reason=reason)


def _photos(
    tar: PhotoPath, name: str, members: Iterable[_Member], version: str
) -> Iterator[Listed]:
    """Yield a row for each photo among the members of the key `name`."""
    photos, texts = [], {}
    for member in members:
        if member.text is None:
            photos.append(member)
        else:
            texts[member.kind] = member.text  # the last one counts, and no other is kept
    label, problem = _label(name, texts)
    for member in photos:
        place = RemotePath.of_member(tar, member.name, member.start, member.end)
        reason = member.reason or problem
        size = member.end - member.start
        digest = None if reason else member.digest
        yield Listed(os.fsencode(place), label, "", digest, size, version, reason)


def _label(name: str, texts: Mapping[str, bytes]) -> tuple[str, str | None]:
    """Return the label that texts of the key `name` have, by kind, and why there is none."""
    try:
        if "cls" in texts:
            label = texts["cls"].decode().strip()
        else:
            value = json.loads(texts["json"])["label"]
            if not isinstance(value, str | int) or isinstance(value, bool):
                raise BadData("its label is neither text nor a whole number")
            label = str(value).strip()
        check_label(label)
    except UnicodeDecodeError:
        return "", "its label is not UTF-8"
    except BadData as error:
        return "", str(error)
    except (KeyError, TypeError, ValueError, RecursionError):
        return "", _NO_LABEL.format(name=name)
    return (label, None) if label else ("", "its label is empty")
