"""Test the members of tar files that strangers made: their headers fill no memory."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable

import pytest

from retrain import tar_members as module
from retrain.tar_members import tar_members


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a header of 512 bytes, and as many bytes of content, with the size that is named."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(-(-max(size, 0) // 512) * 512)


def extended(text: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return an extended header whose field is `text`, such as b"path=a"."""
    length = next(n for n in range(9999) if len(b"%d %s\n" % (n, text)) == n)
    content = b"%d %s\n" % (length, text)
    return member("extended", len(content), kind)[:512] + content.ljust(512, b"\0")


END = bytes(1024)


class Counted(io.BytesIO):
    """A stream that remembers the most bytes that were read at once."""

    most = 0

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        content = super().read(size)
        self.most = max(self.most, len(content))
        return content


def test_members_are_listed_in_both_formats() -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
            for name in ("a" * 300, "ż/b"):
                info = tarfile.TarInfo(name)
                info.size = 700
                tar.addfile(info, io.BytesIO(os.urandom(700)))
        stream.seek(0)
        listed = [(item.name, item.size) for item in tar_members(stream)]
        assert listed == [("a" * 300, 700), ("ż/b", 700)]


def test_the_headers_of_all_members_may_be_more_than_those_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_HEADER_BYTES", 2048)
    stream = io.BytesIO(b"".join(member(f"{n}", 600) for n in range(99)) + END)
    assert len(list(tar_members(stream))) == 99


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    ],
)
def test_a_header_of_a_stranger_is_not_read_if_it_is_huge(kind: bytes) -> None:
    stream = Counted(member("bomb", 8_000_000, kind) + member("1.png") + END)
    with pytest.raises(tarfile.ReadError, match="headers of more than 1,048,576 bytes"):
        list(tar_members(stream))
    assert stream.most == 512


@pytest.mark.parametrize(
    "make",
    [
        lambda: extended(b"path=a") * 600 + member("a"),
        lambda: extended(b"GNU.sparse.map=a,b") + member("a"),
        lambda: extended(b"size=" + b"9" * 30) + member("a"),
        lambda: member("a", -512),
        lambda: extended(b"size=5", tarfile.XGLTYPE) + member("a", -512),
        lambda: member("a", -512, tarfile.XHDTYPE),
        lambda: b"".join(
            extended(b"field%d=a" % n, tarfile.XGLTYPE) + member("a") for n in range(200)
        ),
    ],
    ids=[
        "a chain of headers",
        "no numbers",
        "a size of more than 8 bytes",
        "a size below 0",
        "a size below 0 that a header hides",
        "a header of a size below 0",
        "global fields without end",
    ],
)
def test_damaged_headers_are_an_error_of_tar_files(make: Callable[[], bytes]) -> None:
    with pytest.raises(tarfile.ReadError):
        list(tar_members(io.BytesIO(make() + END)))


def test_what_is_cut_off_or_packed_wrongly_is_an_error() -> None:
    content = member("1.png", 700) + END
    for length in (0, 100, 600, len(content) - len(END)):
        with pytest.raises(tarfile.ReadError):
            list(tar_members(io.BytesIO(content[:length])))
    with pytest.raises(EOFError), gzip.open(io.BytesIO(gzip.compress(content)[:-20])) as stream:
        list(tar_members(stream))
