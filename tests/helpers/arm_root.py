"""Unpack a Debian root of another architecture into a folder, and run it with qemu-user.

Nothing of the host is changed: qemu is unpacked beside it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers import debian
from tests.helpers.packages import pip

CPUS = {"arm64": "cortex-a72", "armhf": "cortex-a7"}
_MACHINES = {"arm64": "aarch64", "armhf": "armv7l"}
_QEMU = {"arm64": "qemu-aarch64-static", "armhf": "qemu-arm-static"}
_LIBRARIES = {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}
_GLIBC = 36
"""The minor version of glibc 2 in Debian bookworm, which wheels may need."""
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
    """A root with Debian's Python 3.11 and packages of its own; `run` runs that Python.

    Several with the same `folder` and architecture share Debian's packages.
    """

    def __init__(self, architecture: str, folder: Path, *packages: str) -> None:
        """Fetch and unpack `python3` and `packages`; raise debian.Missing without them."""
        self.architecture = architecture
        self.root = folder / architecture
        self.packages = Path(tempfile.mkdtemp(prefix="packages-", dir=folder))
        tools = folder / "tools"
        if not tools.exists():
            for package in debian.fetch(folder, debian.architecture(), "qemu-user-static"):
                if package.name.startswith("qemu-user-static_"):
                    debian.unpack(package, tools)
        self._qemu = tools / "usr/bin" / _QEMU[architecture]
        if not self.root.exists():
            self._unpack(folder, *packages)

    def _unpack(self, folder: Path, *packages: str) -> None:
        archives = debian.fetch(folder, self.architecture, "python3", "libstdc++6", *packages)
        for name in ("bin", "sbin", "lib"):  # Debian's /lib is a link, and must stay one
            (self.root / "usr" / name).mkdir(parents=True)
            (self.root / name).symlink_to(f"usr/{name}")
        for archive in archives:
            debian.unpack(archive, self.root)
        libraries = self.root / "usr/lib" / _LIBRARIES[self.architecture]
        for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):
            if (libraries / name).exists():  # what an installation's alternatives link
                (libraries / Path(name).name).symlink_to(name)
        (self.root / "proc").mkdir()
        (self.root / "proc/cpuinfo").write_text("".join(map(_CPUINFO.format, range(4))))

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
        command += [f"--target={self.packages}", *requirements]
        pip(sys.executable, *command, *([] if dependencies else ["--no-deps"]))

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run this root's Python."""
        python = self.root / "usr/bin/python3.11"
        cpu = CPUS[self.architecture]
        command = [self._qemu, "-cpu", cpu, "-L", self.root, python, *arguments]
        return subprocess.run(
            [str(word) for word in command],
            env={"PYTHONPATH": str(self.packages), "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
