"""Devices for the tests of `push`: this machine through a stand-in for ssh, or through sshd."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import debian
from tests.helpers.runs import Invoke

# Runs its last argument as sshd does: in the home folder, in a session of its own.
_LOCAL_SSH = """\
#!{python} -IS
import os, sys
os.setsid()
os.chdir({home!r})
os.environ["HOME"] = {home!r}
os.execvp("sh", ["sh", "-c", sys.argv[-1]])
"""

SSHD_PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


class Host:
    """A device whose user's home folder is `home`; the command `ssh` reaches it by `name`."""

    def __init__(self, folder: Path, name: str, ssh: str) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.name = name
        self.ssh = ssh


def local_host(folder: Path) -> Host:
    """Return this machine as a device, through a program named ssh in `folder`."""
    program = folder / "ssh"
    host = Host(folder, "pi@device", str(program))
    write_program(program, _LOCAL_SSH.format(python=sys.executable, home=str(host.home)))
    return host


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class Sshd(Host):
    """An sshd of the current user's on loopback; `sshd` is the command that starts it."""

    def __init__(self, folder: Path, sshd: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = f"-F none -p {port} -i {folder}/user -o IdentitiesOnly=yes -o BatchMode=yes"
        options += f" -o UserKnownHostsFile={folder}/known -o StrictHostKeyChecking=accept-new"
        ssh = f"ssh {options} -o LogLevel=ERROR"
        super().__init__(folder, f"{getpass.getuser()}@127.0.0.1", ssh)
        for key in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(command, check=True)
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin yes\nSetEnv HOME={self.home}\n"
        )
        check = subprocess.run(
            [*sshd, "-t", "-f", folder / "config"], capture_output=True, text=True, check=False
        )
        if check.returncode:
            pytest.skip(f"sshd does not run here: {check.stderr.strip()}")
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*sshd, "-D", "-e", "-f", folder / "config"], stderr=log
            )
        deadline = time.monotonic() + 30
        while subprocess.run([*shlex.split(self.ssh), self.name, "true"], check=False).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)


def find_sshd(folder: Path) -> list[str]:
    """Return the command that starts sshd, of a Debian package where none is installed."""
    if not shutil.which("ssh"):
        pytest.skip("no ssh on this machine: install openssh-client")
    path = shutil.which("sshd", path=SSHD_PATH)
    if path:
        return [path]
    try:
        return debians_sshd(folder)
    except debian.Missing as error:
        pytest.skip(f"no sshd on this machine, and none from Debian: {error}")


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
    mounts = (
        f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && mount --bind {folder}/passwd /etc/passwd"
    )
    return ["unshare", "--mount", "sh", "-c", f"{mounts} && {start}", "sshd"]


def slow_ssh(host: Host, folder: Path, end: str) -> str:
    """Return an ssh that passes on the start of what it copies, and then runs the command `end`."""
    path = folder / "slow" / "ssh"
    path.parent.mkdir()
    write_program(
        path,
        f'#!/bin/sh\ncase "$*" in *" install "*) (head -c 20000; {end}) | {host.ssh} "$@";;\n'
        f'*) exec {host.ssh} "$@";; esac\n',
    )
    return str(path)


def wait_until(condition: Any) -> None:
    """Return when `condition()` is true; fail after 30 seconds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start_push(host: Host, run: Path, folder: Path, ssh: str) -> subprocess.Popen[str]:
    """Start a push in a process, and return it when something is in the folder above `folder`."""
    options = ("--output-dir", run, "--python", sys.executable, "--ssh", ssh)
    process = subprocess.Popen(
        [sys.executable, "-m", "retrain", "push", f"{host.name}:{folder}", *options],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: names(folder.parent) or process.poll() is not None)
    assert process.poll() is None
    return process


def push(host: Host, invoke: Invoke, run: Path, folder: object, *options: object) -> Any:
    words = ["--output-dir", run, "--ssh", host.ssh, "--python", sys.executable, *options]
    return invoke("push", f"{host.name}:{folder}", *words)
