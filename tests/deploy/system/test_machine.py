"""What a machine tells of itself: a Raspberry Pi's files and programs, and their absence."""

import platform
import stat
from pathlib import Path

import pytest

from deploy.system.machine import device, temperature, throttling


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    """Return a folder with the files of a Raspberry Pi."""
    for name, content in {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
        "proc/cpuinfo": "model name\t: ARMv7 Processor rev 3 (v7l)\nModel\t\t: Raspberry Pi 4\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "etc/os-release": 'ID=debian\nPRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_board_tells_of_itself(pi: Path) -> None:
    described = device(pi)
    assert described.board == "Raspberry Pi 4 Model B Rev 1.5"
    assert described.cpu == "Raspberry Pi 4, ARMv7 Processor rev 3 (v7l)"
    assert described.os == "Raspbian GNU/Linux 12 (bookworm)"
    assert (described.governor, described.temperature_c) == ("ondemand", 48.312)
    assert described.python == platform.python_version()
    assert described.bits in (32, 64)


def test_what_a_machine_does_not_tell_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    described = device(tmp_path)
    assert (described.board, described.governor, described.temperature_c, described.throttling) == (
        None,
    ) * 4
    assert described.os == platform.system()
    assert described.cpu


@pytest.mark.parametrize(("text", "degrees"), [("-1500", -1.5), ("0", 0.0), ("warm", None)])
def test_a_temperature_is_a_number_of_degrees(pi: Path, text: str, degrees: float | None) -> None:
    (pi / "sys/class/thermal/thermal_zone0/temp").write_text(text)
    assert temperature(pi) == degrees


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo throttled=0x0", "none"),
        ("echo throttled=0x50005", "under-voltage now, throttled now, "
         "under-voltage since it started, throttled since it started"),
        ("echo throttled=0x80000", "soft temperature limit since it started"),
        ("echo VCHI initialization failed", None),
        ("exit 1", None),
    ],
)  # fmt: skip
def test_a_firmware_tells_what_it_holds_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str | None
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && {script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert throttling() == words
