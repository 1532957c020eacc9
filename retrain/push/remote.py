"""Describe and fill a folder on a device, by a program that the system's ssh carries there."""

import json
import shlex
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from deploy.errors import BadData, WrongUse, last_line
from deploy.requirements import LITERT, MIN_VERSIONS
from retrain.push.address import Address
from retrain.push.device import Device

MAX_STEP_S = 1800
"""Limit for the copy, and for the self-test on the device."""
_NO_PYTHON = 91

# $d becomes the folder and $p the Python, which reads its program from the start of stdin. Files
# of the home folder do not stand in for modules.
_START = """\
d={folder}
case "$d" in /*) ;; *) d="$HOME/$d" ;; esac
for p in {pythons}; do
    command -v "$p" >/dev/null 2>&1 && break
    p=
done
[ "$p" ] || exit {no_python}
case "$p" in /*) ;; */*) p="$PWD/$p" ;; esac
exec "$p" -c "import sys
sys.path = [path for path in sys.path if path]
exec(sys.stdin.buffer.read({program_bytes}))" {action} "$p" "$d" {arguments}
"""


@dataclass(frozen=True)
class Installation:
    """How an installation ended; `state` "failed" means that nothing is changed."""

    state: Literal["first", "previous", "failed"]
    selftest: dict[str, Any]


class Remote:
    """A folder on a device that ssh reaches; `ssh` is the command, with its options."""

    def __init__(self, address: Address, python: str | None, ssh: str) -> None:
        """Raise WrongUse for an `ssh` that is no command, or that names a second port."""
        self.address = address
        try:
            self._ssh = shlex.split(ssh)
        except ValueError as error:
            raise WrongUse(f"`ssh` {ssh}: {error}") from error
        is_ssh = Path(*self._ssh[:1]).name == "ssh"
        if is_ssh:  # ssh uses the first value of an option that is given twice
            self._ssh += ["-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
        if address.port:
            if is_ssh and any(word.startswith("-p") for word in self._ssh):
                raise WrongUse(f"`ssh` {ssh}: the address names the port {address.port} already")
            self._ssh += ["-p", str(address.port)]
        self._pythons = (
            _word(python) if python else '"$d.env/bin/python" "$d/env/bin/python" python3'
        )

    def describe(self) -> Device:
        """Return what the device has.

        Its Python is the one that was named, or that of the folder's environment, or python3.
        Raises WrongUse without a Python, BadData without an answer.
        """
        process = self._run("describe", *MIN_VERSIONS, LITERT, "tflite-runtime")
        if process.returncode == _NO_PYTHON:
            raise WrongUse(f"{self.address.host}: no such Python there: sudo apt install python3")
        try:
            return Device.from_json(_last_json(process))
        except (ValueError, TypeError, KeyError):
            raise BadData(f"{self.address.host}: {_reason(process)}") from None

    def install(self, archive: Path) -> Installation:
        """Copy the bundle in `archive` (.tar.gz) into the folder, as `install_on_device` says.

        Raises BadData if nothing was changed because the copy or the self-test could not run.
        """
        process = self._run("install", str(MAX_STEP_S), stdin=archive.read_bytes())
        host = self.address.host
        try:
            result = _last_json(process)
            installation = Installation(result["state"], result["selftest"])
        except (ValueError, TypeError, KeyError):
            raise BadData(f"{host}: not copied, nothing is changed: {_reason(process)}") from None
        if installation.selftest is None:
            raise BadData(
                f"{host}: nothing is changed, the self-test did not run: {_reason(process)}"
            )
        return installation

    def _run(
        self, action: str, *arguments: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        program = resources.files("retrain.push").joinpath("install_on_device.py").read_bytes()
        script = _START.format(
            folder=_word(self.address.folder),
            pythons=self._pythons,
            no_python=_NO_PYTHON,
            program_bytes=len(program),
            action=action,
            arguments=shlex.join(arguments),
        )
        # The user's own shell there sees one quoted word. stdin is a pipe: it closes when this
        # process is killed, and that ends the copying.
        command = [*self._ssh, "--", self.address.host, f"exec sh -c {shlex.quote(script)}"]
        try:
            process = subprocess.run(  # noqa: S603 (the command that the user named)
                command, input=program + stdin, capture_output=True, check=False
            )
        except OSError as error:
            raise WrongUse(
                f"{command[0]}: {error.strerror}: install ssh, or name it with `ssh`"
            ) from error
        texts = (text.decode("utf-8", "replace") for text in (process.stdout, process.stderr))
        return subprocess.CompletedProcess(command, process.returncode, *texts)


def _word(path: str) -> str:
    """Return `path` as one word of sh; ~ at its start is the home folder there."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)


def _last_json(process: subprocess.CompletedProcess[str]) -> Any:
    """Return the value of the last line; the shell there may print others when it starts."""
    return json.loads((process.stdout.splitlines() or [""])[-1])


def _reason(process: subprocess.CompletedProcess[str]) -> str:
    return last_line(process.stderr, f"exit code {process.returncode}")
