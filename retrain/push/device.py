"""Check that a device has what a bundle needs, and name the commands that install the rest."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.bundle import not_a_bundle
from deploy.errors import MissingPackage, WrongUse
from deploy.requirements import LITERT, MIN_LITERT, MIN_VERSIONS, OLDEST_PYTHON
from deploy.runtime import remedy


@dataclass(frozen=True)
class Device:
    """What `install_on_device.describe` reports of a device."""

    python: str
    """The command that runs its Python."""
    python_version: tuple[int, int, int]
    in_environment: bool
    machine: str
    bits: int
    packages: dict[str, str]
    """The version of each package that is installed, of those that a bundle needs."""
    folder: str
    parent: str
    """The nearest folder above `folder` that exists."""
    parent_writable: bool
    contents: dict[str, tuple[frozenset[str], str]]
    """Names of the files in a folder that may be replaced, and the text of its SHA256SUMS."""

    @classmethod
    def from_json(cls, values: Any) -> "Device":
        """Return the device; raise KeyError, TypeError or ValueError for other values."""
        contents = {
            folder: (frozenset(content["names"]), content["sums"])
            for folder, content in values["contents"].items()
        }
        major, minor, micro = values["python_version"]
        version = (int(major), int(minor), int(micro))
        return cls(**{**values, "python_version": version, "contents": contents})


def require_ready(device: Device) -> None:
    """Raise WrongUse where a bundle cannot be installed, with the commands to type there."""
    version = device.python_version
    shown = f"Python {'.'.join(map(str, version))} on {device.machine}"
    if version < OLDEST_PYTHON:
        least = ".".join(map(str, OLDEST_PYTHON))
        raise WrongUse(f"{shown}: at least {least} is needed, as Raspberry Pi OS Bookworm has")
    if not device.parent_writable:
        raise WrongUse(
            f"{device.parent}: not this user's, and the folder is made and replaced there: name "
            "one in the home, such as :classifier"
        )
    for folder, (names, sums) in device.contents.items():
        reason = not_a_bundle(names - {"env"}, sums)
        if reason:
            raise WrongUse(f"{folder}: {reason}: move it away, or name another folder")
    missing = _missing_packages(device, shown)
    if missing:
        commands = (f"  {line}" for line in _install_commands(device, missing))
        raise MissingPackage(f"{shown} lacks {', '.join(missing)}. Type there:", *commands)


def _missing_packages(device: Device, shown: str) -> list[str]:
    """Return what pip has to install; raise WrongUse where there is no runtime for the machine."""
    versions = {name: _numbers(version) for name, version in device.packages.items()}
    missing = [
        f"{name}>={least}"
        for name, least in MIN_VERSIONS.items()
        if versions.get(name, ()) < _numbers(least)
    ]
    has_tflite_runtime = "tflite-runtime" in versions and versions.get("numpy", ()) < (2,)
    if versions.get(LITERT, ()) < _numbers(MIN_LITERT) and (
        LITERT in versions or not has_tflite_runtime
    ):
        advice = remedy(device.machine, device.python_version[:2], device.bits)
        packages = advice.removeprefix("pip install ")
        if packages == advice:
            raise WrongUse(f"{shown}: no TFLite runtime: {advice}")
        missing += shlex.split(packages)
    return missing


def _install_commands(device: Device, packages: Sequence[str]) -> list[str]:
    """Return the commands to type: Debian's Python uses pip in an environment only."""
    if device.in_environment:
        return [shlex.join([device.python, "-m", "pip", "install", *packages])]
    environment = f"{device.folder}.env"
    return [
        "sudo apt install python3-venv python3-click python3-numpy python3-pil",
        shlex.join([device.python, "-m", "venv", "--system-site-packages", environment]),
        shlex.join([f"{environment}/bin/python", "-m", "pip", "install", *packages]),
    ]


def _numbers(version: str) -> tuple[int, ...]:
    """Return major and minor version as numbers."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:2])
