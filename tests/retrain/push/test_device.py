"""What `push` requires of a device, and the commands that it prints where something is missing."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from deploy.bundle_texts import NAMES
from deploy.errors import MissingPackage, WrongUse
from retrain.push.device import Device, require_ready

DEVICE = Device(
    python="python3",
    python_version=(3, 11, 2),
    in_environment=False,
    machine="aarch64",
    bits=64,
    packages={
        "click": "8.1.3",
        "numpy": "1.24.2",
        "pillow": "9.4.0",
        "ai-edge-litert": "2.3.0",
    },
    folder="/home/pi/it's",
    parent="/home/pi",
    parent_writable=True,
    contents={"/home/pi/it's": (frozenset(), ""), "/home/pi/it's.previous": (frozenset(), "")},
)


def without(*names: str, **changes: Any) -> Device:
    packages = {name: v for name, v in DEVICE.packages.items() if name not in names}
    return replace(DEVICE, **{"packages": packages, **changes})


SUMS = "".join(f"{64 * '0'}  {name}\n" for name in NAMES)


def containing(folder: str, names: list[str], sums: str) -> Device:
    """Return a device with such files in `folder`, and such a SHA256SUMS."""
    return replace(DEVICE, contents={folder: (frozenset(names), sums)})


@pytest.mark.parametrize(
    "device",
    [
        DEVICE,
        without("ai-edge-litert", packages={**DEVICE.packages, "tflite-runtime": "2.14.0"}),
        without(python_version=(3, 13, 0)),
        containing("c", [*NAMES, "env"], SUMS),
    ],
)
def test_a_device_that_has_all_passes(device: Device) -> None:
    require_ready(device)


def lines(device: Device) -> list[str]:
    with pytest.raises(MissingPackage) as error:
        require_ready(device)
    return str(error.value).splitlines()


def test_what_lacks_is_printed_with_the_commands_to_type() -> None:
    place = shlex.quote("/home/pi/it's.env")
    python = shlex.quote("/home/pi/it's.env/bin/python")
    assert lines(without("click", "ai-edge-litert")) == [
        "Python 3.11.2 on aarch64 lacks click>=8.1, ai-edge-litert>=2.3. Type there:",
        "  sudo apt install python3-venv python3-click python3-numpy python3-pil",
        f"  python3 -m venv --system-site-packages {place}",
        f"  {python} -m pip install 'click>=8.1' 'ai-edge-litert>=2.3'",
    ]


def test_in_an_environment_pip_alone_is_needed() -> None:
    packages = {**DEVICE.packages, "pillow": "9.1.1", "numpy": "1.3"}
    device = without(in_environment=True, python="/home/pi/c.env/bin/python", packages=packages)
    (command,) = lines(device)[1:]
    assert command == "  /home/pi/c.env/bin/python -m pip install 'numpy>=1.24' 'pillow>=9.4'"


def test_an_old_litert_is_not_enough_whatever_else_there_is() -> None:
    packages = {**DEVICE.packages, "ai-edge-litert": "2.1.2", "tflite-runtime": "2.14.0"}
    device = without(in_environment=True, packages=packages)
    assert lines(device)[1].endswith("-m pip install 'ai-edge-litert>=2.3'")


def test_the_runtime_is_that_of_the_machine() -> None:
    device = without("ai-edge-litert", machine="armv7l", bits=32, in_environment=True)
    assert lines(device)[1].endswith("-m pip install tflite-runtime==2.14.0 'numpy<2'")
    packages = {**device.packages, "tflite-runtime": "2.14.0", "numpy": "2.4.1"}
    assert "'numpy<2'" in lines(replace(device, packages=packages))[1]


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (without(python_version=(3, 9, 2)), r"Python 3\.9\.2 on aarch64: at least 3\.11 is needed"),
        (without("ai-edge-litert", machine="armv6l", bits=32), "none for ARMv6"),
        (
            without("ai-edge-litert", machine="armv7l", bits=32, python_version=(3, 13, 1)),
            "Bookworm",
        ),
        (without(parent="/opt", parent_writable=False), "/opt: not this user's.*in the home"),
        (containing("c", ["thesis"], ""), "c: not empty, and not a bundle: .*name another folder"),
        (
            containing("c", ["README.md", "SHA256SUMS"], "0  README.md\n"),
            "c: not empty, and not a bun",
        ),
        (
            containing("c", [*NAMES, "env", "photos"], SUMS),
            r"c: holds what is not of a bundle \(photos\)",
        ),
        (
            containing("c.previous", [*NAMES, "photos"], SUMS),
            r"c.previous: holds .*\(photos\): move it",
        ),
    ],
)
def test_what_cannot_be_mended_there_says_so(device: Device, reason: str) -> None:
    with pytest.raises(WrongUse, match=reason):
        require_ready(device)
