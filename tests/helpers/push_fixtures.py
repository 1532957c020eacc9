"""A real sshd on loopback, and `push` onto it.

host, run and place are for tests to import and to name in their `__all__`: pytest finds them
there, and ruff sees that they are wanted.
"""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Invoke
from tests.helpers import debian
from tests.helpers.deploy_fixtures import write_run


class Host:
    """An sshd of the current user's, whose home is `home`; `sshd` is the command that starts it."""

    def __init__(self, folder: Path, sshd: list[str]) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        for key in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
            subprocess.run(command, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin yes\nSetEnv HOME={self.home}\n"
        )
        tried = subprocess.run(
            [*sshd, "-t", "-f", folder / "config"], capture_output=True, text=True, check=False
        )
        if tried.returncode:
            pytest.skip(f"sshd does not run here: {tried.stderr.strip()}")
        self.process = subprocess.Popen(
            [*sshd, "-D", "-e", "-f", folder / "config"], stderr=(folder / "log").open("w")
        )
        self.name = f"{getpass.getuser()}@127.0.0.1"
        options = f"-F none -p {port} -i {folder}/user -o IdentitiesOnly=yes -o BatchMode=yes"
        options += f" -o UserKnownHostsFile={folder}/known -o StrictHostKeyChecking=accept-new"
        self.ssh = f"ssh {options} -o LogLevel=ERROR"
        deadline = time.monotonic() + 30
        while subprocess.run([*shlex.split(self.ssh), self.name, "true"], check=False).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)

    def python(self, folder: Path) -> None:
        """Put an environment with the Python of this test at `folder`."""
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (folder / "bin" / "python").chmod(0o755)


def debians_sshd(folder: Path) -> list[str]:
    """Return a command that starts the sshd of a package that is only unpacked, into `folder`.

    For root, sshd wants a folder and a user of its own: it sees them, nothing else does.
    """
    for package in debian.fetch(
        folder, debian.architecture(), "openssh-server", beside=debian.INSTALLED
    ):
        debian.unpack(package, folder / "root")
    users = Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(users)
    libraries = ":".join(map(str, (folder / "root").glob("**/lib/*-linux-gnu*")))
    start = f'LD_LIBRARY_PATH={libraries} exec {folder}/root/usr/sbin/sshd "$@"'
    if os.geteuid():
        return ["sh", "-c", start, "sshd"]
    see = (
        f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && mount --bind {folder}/passwd /etc/passwd"
    )
    return ["unshare", "--mount", "sh", "-c", f"{see} && {start}", "sshd"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    sshd = [found] if found else []
    if not sshd and os.environ.get("RETRAIN_DOWNLOADS"):
        try:
            sshd = debians_sshd(tmp_path_factory.mktemp("sshd"))
        except debian.Missing as error:
            pytest.skip(f"no sshd on this machine, and none from Debian: {error}")
    if not sshd or not shutil.which("ssh"):
        pytest.skip("no sshd on this machine: install openssh-server, or set RETRAIN_DOWNLOADS=1")
    host = Host(tmp_path_factory.mktemp("host"), sshd)
    yield host
    host.process.terminate()
    host.process.wait()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return write_run(tmp_path / "run")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return an empty folder of the device."""
    (tmp_path / "device").mkdir()
    return tmp_path / "device"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def push(host: Host, invoke: Invoke, run: Path, folder: object, *options: object) -> Any:
    words = ["--output-dir", run, "--ssh", host.ssh, "--python", sys.executable, *options]
    return invoke("push", f"{host.name}:{folder}", *words)
