"""A Debian root of another architecture, unpacked into a folder and run by qemu-user.

Nothing of the host is changed: qemu is unpacked beside it.
"""

import subprocess
import sys
from pathlib import Path

from tests.helpers import debian
from tests.helpers.packages import pip

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


class ArmRoot:
    """A root with Debian's Python 3.11; `run` runs that Python."""

    def __init__(self, architecture: str, folder: Path, *packages: str) -> None:
        """Fetch and unpack `python3` and `packages`; raise debian.Missing where it cannot be."""
        host = debian.architecture()
        self.architecture = architecture
        self.folder = folder
        self.root = folder / "root"
        for name in ("bin", "sbin", "lib"):  # Debian's /lib is a link, and must stay one
            (self.root / "usr" / name).mkdir(parents=True)
            (self.root / name).symlink_to(f"usr/{name}")
        for package in debian.fetch(folder, architecture, "python3", "libstdc++6", *packages):
            debian.unpack(package, self.root)
        libraries = self.root / "usr/lib" / _LIBRARIES[architecture]
        for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):
            if (libraries / name).exists():  # what an installation's alternatives link
                (libraries / Path(name).name).symlink_to(name)
        (self.root / "proc").mkdir()
        (self.root / "proc/cpuinfo").write_text("".join(map(_CPUINFO.format, range(4))))
        tools = folder / "tools"
        for package in debian.fetch(folder, host, "qemu-user-static"):
            if package.name.startswith("qemu-user-static_"):
                debian.unpack(package, tools)
        self._qemu = tools / "usr/bin" / _QEMU[architecture]

    def install(self, *requirements: str, dependencies: bool = True) -> None:
        """Unpack wheels for this root where its Python finds them, as `packages.pip` does."""
        machine = _MACHINES[self.architecture]
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 16, -1)]
        command = [
            "install",
            "--no-compile",
            "--only-binary=:all:",
            "--python-version=3.11",
            "--implementation=cp",
        ]
        command += [f"--platform={tag}" for tag in (*tags, f"manylinux2014_{machine}")]
        command += [f"--target={self.folder / 'packages'}", *requirements]
        pip(sys.executable, *command, *([] if dependencies else ["--no-deps"]))

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
