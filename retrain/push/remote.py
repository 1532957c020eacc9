"""Put a bundle on a device over ssh: check what it has, copy, self-test, swap by rename."""

import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from deploy.bundle import not_a_bundle
from deploy.bundle_texts import SUMS
from deploy.errors import BadData, MissingPackage, WrongUse, last_line
from deploy.requirements import LITERT, MIN_LITERT, MIN_VERSIONS, OLDEST_PYTHON
from deploy.runtime import remedy
from retrain.push.target import Target, parse

__all__ = ["Remote", "Target", "check", "parse"]

_NO_PYTHON = 91
_PATIENCE_S = 1800
"""That a bundle may take to arrive."""
_MARK = 12
"""Hexadecimal digits that tell one push's folder from another's."""

_LOOK = """
import json, os, platform, struct, sys
from importlib import metadata
packages, folder = {}, sys.argv[2]
for name in sys.argv[3:]:
    try:
        packages[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
parent = os.path.dirname(folder)
while not os.path.isdir(parent):
    parent = os.path.dirname(parent)
def look(folder):
    names = os.listdir(folder) if os.path.isdir(folder) else ["a file"] * os.path.lexists(folder)
    try:
        return names, open(os.path.join(folder, SUMS), errors="replace").read()
    except OSError:
        return names, ""
print(json.dumps({
    "python": sys.argv[1], "version": sys.version_info[:3], "machine": platform.machine(),
    "bits": 8 * struct.calcsize("P"), "packages": packages, "folder": folder,
    "own": sys.prefix != sys.base_prefix,
    "parent": parent, "writable": os.access(parent, os.W_OK | os.X_OK),
    "there": {each: look(each) for each in (folder, folder + ".previous")},
}))
""".replace("SUMS", repr(SUMS))

# Locks the folder that the shell has open as 9, until the shell ends.
_LOCK = """
import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    raise SystemExit("another push is under way there: wait, {minutes} minutes if it was cut off")
except OSError:
    pass  # some network file systems have no locks
"""

# Runs tar, but not for ever: a laptop that lost the network does not end what it began.
_TAR = """
import os, signal, sys
signal.alarm({seconds})
os.execvp("tar", ["tar", *sys.argv[1:]])
"""

# An environment that is one program, which runs this Python.
_WRITE = """
import os, shlex, sys
os.makedirs(sys.argv[1])
path = os.path.join(sys.argv[1], "python")
with open(path, "wb") as program:
    line = 'exec %s "$@"' % shlex.quote(sys.executable)
    program.write(os.fsencode("#!/bin/sh\\n# by retrain push\\n%s\\n" % line))
os.chmod(path, 0o755)
"""

# $d is the folder, $p the Python; what each does is told in the functions that run it.
_FIND = """\
d={folder}
case "$d" in /*) ;; *) d="$HOME/$d" ;; esac
for p in {pythons}; do
    command -v "$p" >/dev/null 2>&1 && break
    p=
done
[ "$p" ] || exit {no_python}
case "$p" in /*) ;; */*) p="$PWD/$p" ;; esac
"""
_SWAP = """\
n="$d.push-{mark}"
trap 'cd /; rm -rf "$n"' EXIT
trap 'exit 1' HUP INT TERM
set -e
mkdir -p "${{d%/*}}/"
exec 9<"${{d%/*}}/"
"$p" -c {lock} 9<&9
rm -rf "$d".push-{marks} "$d".push-{marks}.old
mkdir "$n"
"$p" -c {tar} -xzf - -C "$n" --strip-components=1 9<&-
sync
cd "$n"
state=first
record=$("$p" classify.pyz selftest model.tflite --json) || state=failed
if [ "$state" = failed ]; then printf '%s\\n' failed "$record"; exit; fi
trap '' HUP INT TERM PIPE
if [ -d "$d/env" ] && ! [ -L "$d/env" ] && ! [ -e "$d.env" ] \\
    && ! grep -qs '^# by retrain push$' "$d/env/bin/python"; then
    mv "$d/env" "$d.env"
    ln -s "$d.env" "$d/env"
fi
case "$p" in "$d.env"/* | "$d/env"/*)
    if [ -e "$d.env/bin/python" ]; then ln -s "$d.env" env; fi ;;
esac
[ -e env ] || "$p" -c {write} env/bin
cd /
rmdir "$d" 2>/dev/null || true
if [ -e "$d" ]; then
    state=previous
    if [ -e "$d.previous" ]; then mv "$d.previous" "$n.old"; fi
    mv "$d" "$d.previous"
    if ! mv "$n" "$d"; then
        mv "$d.previous" "$d"
        exit 1
    fi
else
    mv "$n" "$d"
fi
rm -rf "$n.old"
printf '%s\\n' "$state" "$record"
"""


class Remote:
    """A folder on a device that ssh reaches; `ssh` is the command, with its options."""

    def __init__(self, target: Target, python: str | None, ssh: str) -> None:
        """Take what is named; raise WrongUse for what cannot be."""
        self.target = target
        try:
            self._ssh = shlex.split(ssh)
        except ValueError as error:
            raise WrongUse(f"--ssh {ssh}: {error}") from error
        if Path(*self._ssh[:1]).name == "ssh":  # of an option given twice ssh takes the first
            self._ssh += ["-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
        if target.port:
            if Path(*self._ssh[:1]).name == "ssh" and any(w.startswith("-p") for w in self._ssh):
                raise WrongUse(f"--ssh {ssh}: the address names the port {target.port} already")
            self._ssh += ["-p", str(target.port)]
        pythons = _word(python) if python else '"$d.env/bin/python" "$d/env/bin/python" python3'
        self._find = _FIND.format(
            folder=_word(target.folder), pythons=pythons, no_python=_NO_PYTHON
        )

    def look(self) -> dict[str, Any]:
        """Return what is there, as JSON values: Python, machine, packages, the folder.

        Python is `python`, or else that of the environment that is there, or else python3.
        """
        wanted = shlex.join([*MIN_VERSIONS, LITERT, "tflite-runtime"])
        words = f'{shlex.quote(_LOOK)} "$p" "$d" {wanted}'
        done = self._run(f'{self._find}exec "$p" -c {words}')
        if done.returncode == _NO_PYTHON:
            raise WrongUse(f"{self.target.host}: no such Python there: sudo apt install python3")
        try:
            # Before it may be what the shell there prints when it starts.
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            raise BadData(f"{self.target.host}: {_said(done)}") from None
        return found

    def put(self, archive: Path) -> tuple[str, dict[str, Any]]:
        """Copy the bundle in `archive`, self-test, swap; return how that went, and the record.

        That is `first`, `previous` where one was there, or `failed`: then nothing is changed.
        The archive is unpacked into a new folder beside, which is tested, then renamed: what is cut
        off before leaves nothing, after that nothing stops the swap. What a loss of power left, the
        next push removes. The folder that was there becomes FOLDER.previous. An environment in it
        becomes FOLDER.env, and `env` in both a link to it; with another Python, `env/bin/python` in
        the new one runs that.
        """
        scripts = {
            "lock": _LOCK.replace("{minutes}", f"{_PATIENCE_S // 60}"),
            "tar": _TAR.replace("{seconds}", f"{_PATIENCE_S}"),
            "write": _WRITE,
        }
        quoted = {name: shlex.quote(text) for name, text in scripts.items()}
        marks = {"mark": uuid4().hex[:_MARK], "marks": "[0-9a-f]" * _MARK}
        script = self._find + _SWAP.format(**marks, **quoted)
        done = self._run(script, archive.read_bytes())
        told = re.search(r"^(first|previous|failed)\n(.*)", done.stdout, flags=re.M | re.S)
        if not told:
            raise BadData(f"{self.target.host}: not copied, nothing is changed: {_said(done)}")
        try:
            return told[1], json.loads(told[2])
        except ValueError:
            raise BadData(
                f"{self.target.host}: nothing is changed, the self-test did not run: {_said(done)}"
            ) from None

    def _run(self, script: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        # Through a pipe: it closes when this process is killed, and with it the copying ends.
        # Of all the words only one goes through the user's own shell there, quoted.
        command = [*self._ssh, "--", self.target.host, f"exec sh -c {shlex.quote(script)}"]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, check=False)  # noqa: S603
        except OSError as error:
            raise WrongUse(
                f"{command[0]}: {error.strerror}: install ssh, or name it with --ssh"
            ) from error
        said = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, *said)


def check(found: dict[str, Any]) -> None:
    """Raise WrongUse, with the commands to type there, where a device of `look` lacks something."""
    version = tuple(found["version"])
    shown = f"Python {'.'.join(map(str, version))} on {found['machine']}"
    if version < OLDEST_PYTHON:
        least = ".".join(map(str, OLDEST_PYTHON))
        raise WrongUse(f"{shown}: at least {least} is needed, as Raspberry Pi OS Bookworm has")
    if not found["writable"]:
        raise WrongUse(
            f"{found['parent']}: not this user's, and the folder is made and replaced there: name "
            "one in the home, such as :classifier"
        )
    for place, (names, sums) in found["there"].items():
        reason = not_a_bundle(set(names) - {"env"}, sums)
        if reason:
            raise WrongUse(f"{place}: {reason}: move it away, or name another folder")
    have = {name: _numbers(version) for name, version in found["packages"].items()}
    lacks = [
        f"{name}>={least}"
        for name, least in MIN_VERSIONS.items()
        if have.get(name, ()) < _numbers(least)
    ]
    old = "tflite-runtime" in have and have.get("numpy", ()) < (2,)
    if have.get(LITERT, ()) < _numbers(MIN_LITERT) and (LITERT in have or not old):
        advice = remedy(found["machine"], version[:2], found["bits"])
        install = advice.removeprefix("pip install ")
        if install == advice:
            raise WrongUse(f"{shown}: no TFLite runtime: {advice}")
        lacks += shlex.split(install)
    if lacks:
        commands = (f"  {line}" for line in _commands(found, lacks))
        raise MissingPackage(f"{shown} lacks {', '.join(lacks)}. Type there:", *commands)


def _commands(found: dict[str, Any], lacks: Sequence[str]) -> list[str]:
    """Return what to type: Debian's Python takes packages from pip in an environment only."""
    if found["own"]:
        return [shlex.join([found["python"], "-m", "pip", "install", *lacks])]
    place = f"{found['folder']}.env"
    return [
        "sudo apt install python3-venv python3-click python3-numpy python3-pil",
        shlex.join([found["python"], "-m", "venv", "--system-site-packages", place]),
        shlex.join([f"{place}/bin/python", "-m", "pip", "install", *lacks]),
    ]


def _word(path: str) -> str:
    """Return `path` as one word of sh; ~ at its start is the home there."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return last_line(done.stderr, f"exit code {done.returncode}")
