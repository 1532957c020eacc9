"""Put a bundle on a device over ssh: check what it has, copy, swap by rename, self-test."""

import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from deploy.bundle_texts import OLDEST_PYTHON, REQUIREMENTS, SUMS
from deploy.errors import BadData, MissingPackage, WrongUse, last_line
from deploy.runtime import remedy

_NO_PYTHON = 91
_LEAST = dict(re.findall(r"^([a-z]+)>=([\d.]+)$", REQUIREMENTS, flags=re.MULTILINE))
_RUNTIMES = ("ai-edge-litert", "tflite-runtime")

_LOOK = """
import json, os, platform, struct, sys
from importlib import metadata
packages, folder = {}, sys.argv[2]
for name in sys.argv[3:]:
    try:
        packages[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
there = os.listdir(folder) if os.path.isdir(folder) else ["a file"] * os.path.exists(folder)
print(json.dumps({
    "python": sys.argv[1], "version": sys.version_info[:3], "machine": platform.machine(),
    "bits": 8 * struct.calcsize("P"), "packages": packages, "folder": folder,
    "own": sys.prefix != sys.base_prefix, "foreign": bool(there) and SUMS not in there,
}))
""".replace("SUMS", repr(SUMS))

# $d is the folder, $p the Python; what each does is told in the functions that run it.
_FIND = """\
d={folder}
case "$d" in /*) ;; *) d="$HOME/$d" ;; esac
for p in {pythons}; do
    command -v "$p" >/dev/null 2>&1 && break
    p=
done
[ "$p" ] || exit {no_python}
"""
_SWAP = """\
n="$d.{mark}"
trap 'rm -rf "$n"' EXIT
trap 'exit 1' HUP INT TERM
set -e
mkdir -p "$n"
tar -xzf - -C "$n" --strip-components=1
sync
trap '' HUP INT TERM PIPE
if [ -d "$d/env" ] && ! [ -L "$d/env" ] && ! [ -e "$d.env" ]; then
    mv "$d/env" "$d.env"
    ln -s "$d.env" "$d/env"
fi
if [ -e "$d.env" ]; then ln -s "$d.env" "$n/env"; fi
rmdir "$d" 2>/dev/null || true
if [ -e "$d" ]; then
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
[ -e "$d.previous" ] && echo "swapped previous" || echo "swapped first"
cd "$d"
"$p" classify.pyz selftest model.tflite --json
"""


class Target(NamedTuple):
    """Where to: `host` as ssh takes it, `folder` there, absolute or else in the user's home."""

    host: str
    folder: str


def parse(text: str) -> Target:
    """Return the parts of USER@HOST[:DIR]; an IPv6 address before a DIR is in brackets."""
    found = re.fullmatch(r"((?:[^@:\s]+@)?)(?:\[([^]\s]+)\]|([^]\[@:\s]+))(?::(.*))?", text, re.S)
    if not found or text.startswith("-"):
        raise WrongUse(f"{text}: not of the form USER@HOST or USER@HOST:DIR")
    user, address, name, folder = found.groups()
    folder = (folder or "classifier").rstrip("/")
    if Path(folder).name in ("", "..", "~") or "\0" in folder:
        raise WrongUse(f"{text}: name a folder of its own for the classifier, such as :classifier")
    return Target(user + (address or name), folder)


class Remote:
    """A folder on a device that ssh reaches; `ssh` is the command, with its options."""

    def __init__(self, target: Target, python: str | None, ssh: str) -> None:
        """Take what is named; raise WrongUse for what cannot be."""
        self.target = target
        try:
            self._ssh = shlex.split(ssh)
        except ValueError as error:
            raise WrongUse(f"--ssh {ssh}: {error}") from error
        pythons = _word(python) if python else '"$d.env/bin/python" "$d/env/bin/python" python3'
        self._find = _FIND.format(
            folder=_word(target.folder), pythons=pythons, no_python=_NO_PYTHON
        )

    def look(self) -> dict[str, Any]:
        """Return what is there, as JSON values: Python, machine, packages, the folder.

        Python is `python`, or else that of the environment that is there, or else python3.
        """
        words = shlex.join([_LOOK]) + ' "$p" "$d" ' + shlex.join([*_LEAST, *_RUNTIMES])
        done = self._run(f'{self._find}exec "$p" -c {words}', None)
        if done.returncode == _NO_PYTHON:
            raise WrongUse(f"{self.target.host}: no such Python there: sudo apt install python3")
        try:
            # Before it may be what the shell there prints when it starts.
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            raise BadData(f"{self.target.host}: {_said(done)}") from None
        return found

    def put(self, archive: Path) -> tuple[bool, dict[str, Any]]:
        """Copy the bundle in `archive`, swap, self-test; return whether one was there, the record.

        The archive is unpacked into a new folder beside, which is renamed: what is cut off before
        leaves nothing, after that nothing stops the swap. The folder that was there becomes
        FOLDER.previous. An environment in it becomes FOLDER.env, and `env` in both a link to it.
        """
        with archive.open("rb") as stream:
            done = self._run(self._find + _SWAP.format(mark=uuid4().hex[:12]), stream)
        swapped = re.search(r"^swapped (\w+)\n(.*)", done.stdout, flags=re.M | re.S)
        if not swapped:
            raise BadData(f"{self.target.host}: not copied, nothing is changed: {_said(done)}")
        try:
            return swapped[1] == "previous", json.loads(swapped[2])
        except ValueError:
            raise BadData(
                f"{self.target.host}: copied, and the self-test did not run: {_said(done)}"
            ) from None

    def _run(self, script: str, stdin: Any) -> subprocess.CompletedProcess[str]:
        # Of all the words only one goes through the user's own shell there, quoted.
        command = [*self._ssh, "--", self.target.host, f"exec sh -c {shlex.quote(script)}"]
        try:
            return subprocess.run(  # noqa: S603
                command,
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise WrongUse(
                f"{command[0]}: {error.strerror}: install ssh, or name it with --ssh"
            ) from error


def check(found: dict[str, Any]) -> None:
    """Raise WrongUse, with the commands to type there, where a device of `look` lacks something."""
    version = tuple(found["version"])
    shown = f"Python {'.'.join(map(str, version))} on {found['machine']}"
    if version < OLDEST_PYTHON:
        least = ".".join(map(str, OLDEST_PYTHON))
        raise WrongUse(f"{shown}: at least {least} is needed, as Raspberry Pi OS Bookworm has")
    if found["foreign"]:
        raise WrongUse(f"{found['folder']}: not empty, and not a bundle: name another folder")
    have = found["packages"]
    lacks = [
        f"{name}>={least}"
        for name, least in _LEAST.items()
        if name not in have or _numbers(have[name]) < _numbers(least)
    ]
    old_numpy = "numpy" not in have or _numbers(have["numpy"]) < (2,)
    if "ai-edge-litert" not in have and not ("tflite-runtime" in have and old_numpy):
        advice = remedy(found["machine"], version[:2], found["bits"])
        install = advice.removeprefix("pip install ")
        if install == advice:
            raise WrongUse(f"{shown}: no TFLite runtime: {advice}")
        lacks += shlex.split(install)
    if lacks:
        commands = "\n".join(f"  {line}" for line in _commands(found, lacks))
        raise MissingPackage(f"{shown} lacks {', '.join(lacks)}. Type there:\n{commands}")


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
