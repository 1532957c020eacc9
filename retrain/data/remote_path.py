"""Name a photo that is no file of its own on this machine: at a URL, or in a tar file."""

import errno
import os
import re
import stat
from functools import total_ordering
from pathlib import Path, PurePath
from typing import TypeAlias

from deploy.image import MAX_PHOTO_BYTES, TOO_LARGE
from retrain.data import store
from retrain.data.store import Facts

_MEMBER = re.compile(r"(.+)#([^#]*)\?bytes=(\d+)-(\d+)", re.DOTALL)
_WEB_PATH = re.compile(r"https?://[^/?#]*([^?#]*)", re.DOTALL)
_FILE = "file://"


@total_ordering
class RemotePath:
    """The place of a file at a URL that fsspec reads, or of a member of a tar file.

    The member `a/1.jpg` of a tar file, which lies at the bytes from 512 up to 900, is
    `s3://bucket/x.tar#a/1.jpg?bytes=512-900`, or `file:///folder/x.tar#...`; in its name `%23`
    stands for `#` and `%25` for `%`. One read of these bytes gives the photo. The text is the whole
    value: it is equal, sorted, stored and sent to other machines by it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def of_member(cls, tar: "PhotoPath", name: str, start: int, end: int) -> "RemotePath":
        """Return the place of the member `name`, at the bytes from `start` up to `end`."""
        file = url_of(tar)
        quoted = name.replace("%", "%25").replace("#", "%23")
        return cls(f"{file}#{quoted}?bytes={start}-{end}")

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"RemotePath({self._text!r})"

    def __fspath__(self) -> str:
        return self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self._text == other._text

    def __lt__(self, other: "PhotoPath") -> bool:
        return self._text < str(other)

    def __getstate__(self) -> str:
        return self._text

    def __setstate__(self, text: str) -> None:
        self._text = text

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self._text.rstrip('/')}/{name}")

    def _split(self) -> tuple[str, str]:
        """Return the file, and in it the member of a tar file, "" without one."""
        match = _MEMBER.fullmatch(self._text)
        if not match:
            return self._text, ""
        return match[1], match[2].replace("%23", "#").replace("%25", "%")

    @property
    def name(self) -> str:
        """The last part of the member's name, or of the URL."""
        file, member = self._split()
        if match := not member and _WEB_PATH.match(file):
            file = match[1] or file
        return (member or file).rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return PurePath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePath(self.name).stem

    @property
    def parent(self) -> "RemotePath":
        """The folder at the URL; of a member, the tar file."""
        file, member = self._split()
        if member:
            return RemotePath(file)
        scheme, _, path = file.partition("://")
        above = path.rstrip("/").rpartition("/")[0]
        return RemotePath(f"{scheme}://{above}") if above else self

    @property
    def parents(self) -> tuple["RemotePath", ...]:
        """The folders above, the nearest first."""
        above, places = self.parent, list[RemotePath]()
        while above != (places[-1] if places else self):
            places.append(above)
            above = above.parent
        return tuple(places)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the folders above, and its own."""
        return (*(place.name for place in reversed(self.parents)), self.name)

    def absolute(self) -> "RemotePath":
        """Return this place."""
        return self

    def as_uri(self) -> str:
        """Return the URL."""
        return self._text

    def _below(self, root: "os.PathLike[str] | str") -> str | None:
        """Return the name below `root`, a folder or a tar file; None if it is not below it."""
        file, member = self._split()
        place = os.fspath(root).rstrip("/")
        if isinstance(root, Path):
            place = f"{_FILE}{root.absolute()}"
        if member and file == place:
            return member
        if not file.startswith(f"{place}/"):
            return None
        return file[len(place) + 1 :] + (f"#{member}" if member else "")

    def is_relative_to(self, root: "os.PathLike[str] | str") -> bool:
        """Return whether this is below the folder, or in the tar file, `root`."""
        return self._below(root) is not None

    def relative_to(self, root: "os.PathLike[str] | str") -> Path:
        """Return the name below `root`, without the bytes of a member; raise ValueError."""
        below = self._below(root)
        if below is None:
            raise ValueError(f"{self} is not below {root}")
        return Path(below)

    def read_bytes(self) -> bytes:
        """Return the content with one read, of a large file the first `MAX_PHOTO_BYTES` + 1 bytes.

        Raises OSError, and BadData for a missing package.
        """
        match = _MEMBER.fullmatch(self._text)
        if not match:
            return store.read_start(self._text, MAX_PHOTO_BYTES + 1)
        file, start, end = match[1], int(match[3]), int(match[4])
        end = min(end, start + MAX_PHOTO_BYTES + 1)
        if not file.startswith(_FILE):
            return store.read(file, start, end)
        with Path(file[len(_FILE) :]).open("rb") as stream:
            stream.seek(start)
            return stream.read(end - start)

    def look(self) -> Facts:
        """Return the facts of the file; of a member, its size and the mark of its tar file."""
        match = _MEMBER.fullmatch(self._text)
        if not match:
            return store.look(self._text)
        facts = look(photo_path(match[1]))
        return facts._replace(size=int(match[4]) - int(match[3]))

    def exists(self) -> bool:
        """Return whether the file is there; of a member, whether its tar file is."""
        try:
            self.look()
        except OSError:
            return False
        return True


PhotoPath: TypeAlias = Path | RemotePath


def photo_path(text: "str | PhotoPath") -> PhotoPath:
    """Return the place that a text names: a Path, or a RemotePath if it begins as a URL.

    `file:///folder/1.jpg` is a Path. A place is returned as it is.
    """
    if not isinstance(text, str):
        return text
    if not store.is_url(text):
        return Path(text)
    if text.startswith(_FILE) and not _MEMBER.fullmatch(text):
        return Path(text[len(_FILE) :])
    return RemotePath(text)


def url_of(place: PhotoPath) -> str:
    """Return the text of a place as a URL: `file:///folder/x.tar` for a Path."""
    return f"{_FILE}{place.absolute()}" if isinstance(place, Path) else str(place)


def read_photo(place: PhotoPath) -> bytes:
    """Return the bytes of the file at a place; raise OSError, also for more than a photo may have.

    Whoever listed the file may not have known its size.
    """
    if isinstance(place, RemotePath):
        content = place.read_bytes()
    else:
        with place.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            # A pipe has the size 0, and may be without end.
            is_small = 0 < size <= MAX_PHOTO_BYTES
            content = stream.read() if is_small else stream.read(MAX_PHOTO_BYTES + 1)
    if len(content) > MAX_PHOTO_BYTES:
        raise OSError(errno.EFBIG, TOO_LARGE, str(place))
    return content


def look(place: PhotoPath) -> Facts:
    """Return the facts of the file at a place; raise OSError, for what is no file too."""
    if isinstance(place, RemotePath):
        return place.look()
    about = place.stat()
    if not stat.S_ISREG(about.st_mode):  # to read a pipe may take for ever
        raise OSError(errno.EINVAL, "it is not a file", str(place))
    return local_facts(about)


def local_facts(about: os.stat_result) -> Facts:
    """Return the facts of a file of this machine."""
    # Programs can set the first time to any value, and the system alone sets the second one.
    times = about.st_mtime_ns, about.st_ctime_ns
    return Facts(about.st_size, f"{times[0]}-{times[1]}", max(times))
