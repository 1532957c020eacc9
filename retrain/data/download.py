"""Download a file of known size and digest, going on from where an earlier run stopped."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import click

from deploy.errors import BadData, WrongUse
from deploy.system.error_messages import doing

_TIMEOUT = 30  # seconds without one byte
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Remote:
    """A file to download: its address, its size in bytes and its SHA-256 in hexadecimal."""

    url: str
    size: int
    sha256: str


def fetch(remote: Remote, cache: Path) -> Path:
    """Return the path of `remote` in the folder `cache`, downloading what is not there yet.

    What has come stays as a .part file, which the next run continues by HTTP Range
    (RFC 9110, section 14). Raises BadData for a failed download or a wrong digest, WrongUse
    while another process downloads the same file, OSError when it cannot be written.
    """
    from filelock import FileLock, Timeout

    cache.mkdir(parents=True, exist_ok=True)
    # The digest in the name: another version of the file never meets this one.
    file = cache / f"{remote.sha256[:12]}-{remote.url.rpartition('/')[2]}"
    part = file.with_name(f"{file.name}.part")
    try:
        lock = file.with_name(f"{file.name}.lock")
        with doing("lock", lock), FileLock(lock, timeout=0):
            if not (file.exists() and _digest(file) == remote.sha256):
                with doing("write", part):
                    _receive(remote, part)
                if (found := _digest(part)) != remote.sha256:
                    part.unlink()
                    raise BadData(
                        f"{remote.url}: downloaded, but its SHA-256 is {found} where "
                        f"{remote.sha256} was expected; it is deleted: run this again, and if it "
                        "comes out the same, the address serves another file"
                    )
                part.replace(file)
    except Timeout as error:
        raise WrongUse(
            f"{remote.url}: another process is downloading it: wait for it, then run this again"
        ) from error
    return file


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _receive(remote: Remote, part: Path) -> None:
    part.touch()
    label = f"Downloading {remote.url} ({remote.size / 1e6:,.0f} MB)"
    with (
        click.progressbar(length=remote.size, label=label, file=sys.stderr) as bar,
        part.open("r+b") as stream,
    ):
        best = -1
        # A cut connection is opened again for as long as each brings the file further.
        while (have := stream.seek(0, 2)) < remote.size:
            if have <= best:
                raise BadData(
                    f"{remote.url}: the connection ended after {have:,} of {remote.size:,} bytes: "
                    "run this again to go on from there"
                )
            best = have
            for start, block in _blocks(remote, have):
                stream.seek(start)
                stream.truncate()
                stream.write(block)
                bar.pos = start  # a server may start over
                bar.update(len(block))


def _blocks(remote: Remote, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) from `start`, or from 0 if the server will have it so, until a cut."""
    asked = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = urlopen(Request(remote.url, headers=asked), timeout=_TIMEOUT)  # noqa: S310 (our own address)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # it has no such range: the part is of another file
            yield from _blocks(remote, 0)
            return
        raise BadData(
            f"{remote.url}: the server answered {error.code} {error.reason}: try again later, or "
            "open the address in a browser to see whether the file has moved"
        ) from error
    except (OSError, HTTPException) as error:
        raise BadData(
            f"{remote.url}: {getattr(error, 'reason', error) or type(error).__name__}: check the "
            "network connection and proxy settings, then run this again"
        ) from error
    with response, suppress(OSError, HTTPException):
        ranged = response.status == 206
        whole = f"bytes {start}-{remote.size - 1}/{remote.size}" if ranged else str(remote.size)
        offer = response.headers["Content-Range" if ranged else "Content-Length"]
        if offer != whole:
            raise BadData(
                f"{remote.url}: the server offers {offer} where {whole} bytes were expected: "
                "a proxy or sign-in page may have answered; open the address in a browser"
            )
        at = start if ranged else 0
        while at < remote.size and (block := response.read(min(_BLOCK, remote.size - at))):
            yield at, block
            at += len(block)
