"""A Debian root of another architecture, unpacked into a folder and run by qemu-user.

Nothing of the host is changed: apt keeps its lists and its state inside the folder, with the
host's own sources, and qemu is unpacked beside it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CPUS = {"arm64": "cortex-a72", "armhf": "cortex-a7"}
_MACHINES = {"arm64": "aarch64", "armhf": "armv7l"}
_QEMU = {"arm64": "qemu-aarch64-static", "armhf": "qemu-arm-static"}
_LIBRARIES = {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}
_GLIBC = 36
"""The minor version of glibc 2 in Debian bookworm: what wheels may ask for."""
# The runtimes look at the CPU's description and crash on that of an x86 host.
_CPUINFO = """\
processor\t: {}
Features\t: fp asimd evtstrm crc32 half thumb fastmult vfp edsp neon vfpv3 tls vfpv4
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


class Missing(Exception):
    """A program or a package registry that is needed is not there."""


class ArmRoot:
    """A root with Debian's Python 3.11; `run` runs that Python."""

    def __init__(self, architecture: str, folder: Path, *packages: str) -> None:
        """Fetch and unpack `python3` and `packages`; raise Missing where that cannot be done."""
        for program in ("apt-get", "dpkg-deb", "tar"):
            if not shutil.which(program):
                raise Missing(f"no {program}")
        self.architecture = architecture
        self.folder = folder
        self.root = folder / "root"
        for name in ("bin", "sbin", "lib"):  # Debian's /lib is a link, and must stay one
            (self.root / "usr" / name).mkdir(parents=True)
            (self.root / name).symlink_to(f"usr/{name}")
        for package in self._fetch(architecture, "python3", "libstdc++6", *packages):
            _unpack(package, self.root)
        libraries = self.root / "usr/lib" / _LIBRARIES[architecture]
        for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):
            if (libraries / name).exists():  # what an installation's alternatives link
                (libraries / Path(name).name).symlink_to(name)
        (self.root / "proc").mkdir()
        (self.root / "proc/cpuinfo").write_text("".join(map(_CPUINFO.format, range(4))))
        ask = ["dpkg", "--print-architecture"]
        host = subprocess.run(ask, capture_output=True, text=True, check=True)
        tools = folder / "tools"
        for package in self._fetch(host.stdout.strip(), "qemu-user-static"):
            if package.name.startswith("qemu-user-static_"):
                _unpack(package, tools)
        self._qemu = tools / "usr/bin" / _QEMU[architecture]

    def install(self, *requirements: str, dependencies: bool = True) -> None:
        """Unpack wheels for this root where its Python finds them; raise Missing without."""
        machine = _MACHINES[self.architecture]
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 16, -1)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
        command += [f"--platform={tag}" for tag in (*tags, f"manylinux2014_{machine}")]
        command += [f"--target={self.folder / 'packages'}", *requirements]
        _call([*command, *([] if dependencies else ["--no-deps"])])

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run this root's Python."""
        python = self.root / "usr/bin/python3.11"
        return subprocess.run(
            [self._qemu, "-cpu", CPUS[self.architecture], "-L", self.root, python, *arguments],
            env={"PYTHONPATH": str(self.folder / "packages"), "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )

    def _fetch(self, architecture: str, *packages: str) -> list[Path]:
        place = self.folder / f"apt-{architecture}"
        for name in ("lists/partial", "archives/partial"):
            (place / name).mkdir(parents=True)
        (place / "status").touch()
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
            "Dir::State::Lists": place / "lists",
            "Dir::State::status": place / "status",
            "Dir::Cache": place,
            "Dir::Cache::archives": place / "archives",
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        # Other sources of the host may not have this architecture: what lacks is told below.
        update = ["apt-get", *options, "-qq", "update"]
        subprocess.run(update, capture_output=True, check=False)
        _call(["apt-get", *options, "-qq", "-y", "--download-only", "install", *packages])
        return sorted((place / "archives").glob("*.deb"))


def _unpack(package: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    unpack = ["dpkg-deb", "--fsys-tarfile", package]
    with subprocess.Popen(unpack, stdout=subprocess.PIPE) as archive:
        command = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", folder]
        subprocess.run(command, stdin=archive.stdout, check=True)


def _call(command: list[str]) -> None:
    done = subprocess.run(
        command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise Missing(f"{Path(command[0]).name}: {reason}")
