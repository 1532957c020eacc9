"""Parse the address that `push` copies to: USER@HOST:DIR as for scp, or ssh://USER@HOST/DIR."""

import ipaddress
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from deploy.errors import WrongUse

_DEFAULT_FOLDER = "classifier"
_FORM = "not of the form USER@HOST, USER@HOST:DIR or ssh://USER@HOST:PORT/DIR"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_PLAIN = re.compile(
    r"(?P<user>(?:[^@:/\s]+@)?)(?:\[(?P<address>[^]\s]+)\]|(?P<name>[^]\[@:/\s]+))"
    r"(?::(?P<folder>.*))?",
    re.DOTALL,
)
_URL = re.compile(
    r"ssh://(?P<user>(?:[^@:/;\s]+@)?)(?:\[(?P<address>[^]/\s]+)\]|(?P<name>[^]\[@:/?#\s]+))"
    r"(?::(?P<port>[0-9]*))?(?P<folder>/.*)?",
    re.DOTALL | re.IGNORECASE,
)


class Address(NamedTuple):
    """A folder on a device.

    `host` is USER@HOST or HOST, as ssh takes it. `folder` is absolute, or else in the user's home.
    ssh chooses the port where `port` is None.
    """

    host: str
    folder: str
    port: int | None = None


def parse_address(text: str) -> Address:
    """Return the parts of USER@HOST[:DIR] or ssh://[USER@]HOST[:PORT][/DIR].

    An IPv6 address is in brackets. In the second form DIR is absolute, or starts with ~/ for the
    home, as in addresses of git, and %20 is a space. Raises WrongUse for other text.
    """
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() != "ssh":
        raise WrongUse(f"{text}: push goes over ssh: USER@HOST:DIR or ssh://USER@HOST:PORT/DIR")
    match = (_URL if scheme else _PLAIN).fullmatch(text)
    if scheme and re.match(r"ssh://[^@/:]*:[^@/]*@", text, re.IGNORECASE):
        raise WrongUse("ssh://...: no password in the address: leave it out, ssh asks for it")
    user, at, address = text.rpartition("@")
    if _is_ipv6(address):
        raise WrongUse(f"{text}: put the address into brackets: {user}{at}[{address}]")
    if not match:
        raise WrongUse(f"{text}: {_FORM}")
    host = match["user"] + (match["address"] or match["name"])
    folder = match["folder"] or ""
    port = None
    if scheme:
        host = unquote(host)
        folder = unquote(folder).removeprefix("/" if folder.startswith("/~") else "").rstrip("/")
        port = _port(match["port"], text)
    elif re.fullmatch(r"[0-9]+(/*|:.*)", folder):
        number = re.split("[/:]", folder)[0]
        raise WrongUse(
            f"{text}: is {number} a port? ssh://{host}:{number}. Or a folder? {host}:./{number}"
        )
    if host.startswith("-") or "\0" in host:
        raise WrongUse(f"{text}: {_FORM}")
    return Address(host, _require_folder(folder or _DEFAULT_FOLDER, text), port)


def _require_folder(folder: str, text: str) -> str:
    """Return `folder` without slashes at its end; raise WrongUse for a home or the root."""
    folder = folder.rstrip("/")
    home_of_another = folder.startswith("~") and not folder.startswith("~/")
    if Path(folder).name in ("", "..") or home_of_another or "\0" in folder:
        raise WrongUse(f"{text}: name a folder of its own for the classifier, such as :classifier")
    return folder


def _port(digits: str | None, text: str) -> int | None:
    if not digits:
        return None
    if not 0 < int(digits[:6]) < 65_536 or len(digits) > 5:
        raise WrongUse(f"{text}: a port is a number of 1 to 65535")
    return int(digits)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
