"""Download a file of known size and SHA-256, whole or not at all."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import IncompleteRead, responses
from pathlib import Path
from typing import Any

from deploy.errors import BadData
from deploy.system.error_messages import doing
from deploy.system.temporary_files import scratch
from retrain.progress import Advance, Progress

_TIMEOUT_S = 30.0
"""Longest time without one byte."""
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Remote:
    """A file to download: its address, its size in bytes and its SHA-256 in hexadecimal."""

    url: str
    size: int
    sha256: str


def fetch(remote: Remote, folder: Path, progress: Progress) -> Path:
    """Return the path of `remote` in `folder`; download it if it is not there whole.

    Raises BadData for a failed download, and for a file of another size or SHA-256; OSError if the
    file cannot be written. Environment variables such as `https_proxy` name a proxy.
    """
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("WARNING")
    # The digest is part of the name: another version of the file is another file.
    path = folder / f"{remote.sha256[:12]}-{remote.url.rpartition('/')[2]}"
    if path.is_file() and pooch.file_hash(path) == remote.sha256:
        return path
    total_mb = max(1, round(remote.size / 1e6))
    try:
        with (
            ExitStack() as responses_to_close,
            doing("write", path),
            progress.bar(f"Downloading {remote.url}", total_mb, "MB") as advance,
        ):
            folder.mkdir(parents=True, exist_ok=True)
            with scratch(folder) as temporary:
                downloader = pooch.HTTPDownloader(
                    progressbar=_SizeCheck(remote, advance),
                    chunk_size=_BLOCK_BYTES,
                    timeout=_TIMEOUT_S,
                    hooks={"response": _close_with(responses_to_close)},
                    headers={"Accept-Encoding": "identity"},
                )
                downloaded = pooch.retrieve(
                    remote.url,
                    known_hash=f"sha256:{remote.sha256}",
                    fname=path.name,
                    path=temporary,
                    downloader=downloader,
                )
                Path(downloaded).replace(path)
    except RequestException as error:
        raise BadData(f"{remote.url}: {_problem(error)}") from error
    except ValueError as error:  # how pooch reports another digest
        raise BadData(
            f"{remote.url}: downloaded, but its SHA-256 is not {remote.sha256}, which was "
            "expected; it is deleted: run this again, and if it comes out the same, the address "
            "serves another file"
        ) from error
    return path


def _close_with(stack: ExitStack) -> Callable[..., None]:
    """Return a hook of requests that closes a response with `stack`; pooch leaves it open."""

    def hook(response: Any, *_: object, **__: object) -> None:
        stack.callback(response.close)

    return hook


class _SizeCheck:
    """The progress bar of a pooch download; it ends the download of a file of another size.

    pooch sets `total` to the size that the server announces, 0 if it announces none.
    """

    def __init__(self, remote: Remote, advance: Advance) -> None:
        self.total = 0
        self._remote = remote
        self._advance = advance
        self._bytes = self._shown_mb = 0

    def update(self, count: int) -> None:
        """Count the bytes of another block; raise BadData if they are too many."""
        expected = self._remote.size
        if self.total not in (0, expected):
            raise BadData(
                f"{self._remote.url}: the server offers {self.total} bytes where {expected} were "
                "expected: a proxy or sign-in page may have answered; open the address in a browser"
            )
        self._bytes += count
        if self._bytes >= expected + _BLOCK_BYTES:
            raise BadData(
                f"{self._remote.url}: the server sends more than the {expected} bytes that were "
                "expected: open the address in a browser to see what it is"
            )
        new_mb = self._bytes // 1_000_000 - self._shown_mb
        if new_mb > 0:
            self._shown_mb += new_mb
            self._advance(new_mb)

    def reset(self) -> None:
        """Count from 0 again: pooch then counts the whole file."""
        self._bytes = 0

    def close(self) -> None:
        """Do nothing: the bar ends with its block."""


def _problem(error: Exception) -> str:
    """Return what went wrong with a request, and what to do."""
    response = getattr(error, "response", None)
    if response is not None:
        reason = response.reason or responses.get(response.status_code, "")
        return (
            f"the server answered {response.status_code} {reason}: try again later, or open the "
            "address in a browser to see whether the file has moved"
        )
    first: BaseException = error  # requests wraps it several times
    while first.__context__:
        first = first.__context__
    reason = getattr(first, "strerror", None) or str(first) or type(first).__name__
    if isinstance(first, IncompleteRead):
        reason = "the connection was cut"
    return f"{reason}: check the network connection and proxy settings, then run this again"
