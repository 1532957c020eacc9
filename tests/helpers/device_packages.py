"""A Python with nothing but a 64-bit device's packages, made of those that are installed here."""

import re
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from deploy.requirements import LITERT, MIN_VERSIONS


def make_environment(folder: Path) -> Path:
    """Make an environment with the packages of a bundle and LiteRT; return its Python.

    Links to this environment's packages take the place of an installation: no registry is asked.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in _with_requirements([*MIN_VERSIONS, LITERT]):
        for name in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            (site / name).symlink_to(Path(str(package.locate_file(name))))
    return folder / "bin" / "python"


def write_bare_python(path: Path) -> None:
    """Write a `python3` that finds no package, as a device's without any installed."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    path.write_text(f'#!/bin/sh\nexec {base} -S "$@"\n')
    path.chmod(0o755)


def _with_requirements(names: list[str]) -> list[Distribution]:
    """Return the packages and, of all that they always need, each one once."""
    packages: dict[str, Distribution] = {}
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name not in packages:
            packages[name] = distribution(name)
            requirements = packages[name].requires or []
            names += [re.split(r"[^\w.-]", line)[0] for line in requirements if ";" not in line]
    return list(packages.values())
