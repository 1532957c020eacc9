"""Fetch Debian packages without installing them, with apt's lists and archives in a folder.

The host is not changed; its own sources name the registries.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.errors import last_line

INSTALLED = Path("/var/lib/dpkg/status")


class Missing(Exception):
    """A program or Debian's registry of packages is not there."""


def architecture() -> str:
    """Return Debian's name for the host's architecture; raise Missing where it is no Debian."""
    for program in ("apt-get", "dpkg", "dpkg-deb", "tar"):
        if not shutil.which(program):
            raise Missing(f"no {program}")
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def fetch(folder: Path, machine: str, *packages: str, beside: Path | None = None) -> list[Path]:
    """Return the .deb files of `packages` and what they need, for the architecture `machine`.

    Packages that the dpkg status file `beside` lists are left out. Raises Missing without a
    registry; fails if a registry lacks a package.
    """
    place = Path(tempfile.mkdtemp(prefix="apt-", dir=folder))
    for name in ("lists/partial", "archives/partial"):
        (place / name).mkdir(parents=True)
    (place / "status").touch()
    settings = {
        "APT::Architecture": machine,
        "APT::Architectures": machine,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
        "Dir::State::Lists": place / "lists",
        "Dir::State::status": beside or place / "status",
        "Dir::Cache": place,
        "Dir::Cache::archives": place / "archives",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    # Other sources of the host may lack this architecture; a missing list is noticed below.
    updated = _run(["apt-get", *options, "-qq", "update"])
    if not list((place / "lists").glob(f"*binary-{machine}_Packages*")):
        reason = last_line(updated.stderr, "its sources have none")
        raise Missing(f"no list of Debian's packages for {machine}: {reason}")
    download = _run(["apt-get", *options, "-qq", "-y", "--download-only", "install", *packages])
    assert not download.returncode, download.stderr
    return sorted((place / "archives").glob("*.deb"))


def unpack(package: Path, folder: Path) -> None:
    """Add the files of a .deb file to `folder`."""
    folder.mkdir(exist_ok=True)
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
        tar = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(folder)]
        subprocess.run(tar, stdin=archive.stdout, check=True)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    settings = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
