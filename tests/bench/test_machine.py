"""The description of a machine, from files as Linux and a Raspberry Pi have them."""

import os
from pathlib import Path

import pytest

from bench.machine import CpuWatch, Disturbance, read_machine, read_state, was_throttled


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("cpuinfo", "cpu"),
    [
        (
            "processor\t: 0\nmodel\t\t: 142\nmodel name\t: Intel(R) Core(TM) i7\n",
            "Intel(R) Core(TM) i7",
        ),
        (
            "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\n\nHardware\t: BCM2711\n"
            "Model\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
            "Raspberry Pi 4 Model B Rev 1.4, ARMv7 Processor rev 3 (v7l)",
        ),
        (
            "processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
            "Raspberry Pi 5 Model B Rev 1.0",
        ),
        (
            "model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 avx512f avx_vnni avx512_vnni\n",
            "AMD EPYC, AVX2, AVX-512, VNNI",
        ),
        (
            "Features\t: fp asimd asimddp\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
            "Raspberry Pi 5 Model B Rev 1.0, dot product",
        ),
    ],
)
def test_the_cpu_has_the_name_that_people_know(tmp_path: Path, cpuinfo: str, cpu: str) -> None:
    assert read_machine(write_files(tmp_path, {"proc/cpuinfo": cpuinfo})).cpu == cpu


def test_a_machine_without_system_files_has_a_cpu_too(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert machine.cpu
    assert (machine.governor, machine.memory_bytes) == (None, None)


def test_clock_and_heat_of_a_raspberry_pi_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpufreq = "sys/devices/system/cpu/cpu0/cpufreq"
    files = {
        f"{cpufreq}/scaling_governor": "ondemand\n",
        f"{cpufreq}/scaling_cur_freq": "1800000\n",
        "sys/class/thermal/thermal_zone0/temp": "61828\n",
        "proc/meminfo": "MemTotal:        3884344 kB\nMemFree:  1 kB\n",
    }
    program = write_files(tmp_path, {"bin/vcgencmd": "#!/bin/sh\necho throttled=0x50005\n"})
    (program / "bin" / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    root = write_files(tmp_path, files)
    read = read_machine(root)
    assert (read.governor, read.memory_bytes) == ("ondemand", 3884344 * 1024)
    state = read_state(root)
    assert (state.mhz, state.celsius, state.throttled) == (1800, 61.828, 0x50005)


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        (None, None, False),
        (0, 0, False),
        (0x50000, 0x50000, False),  # long ago
        (0x50000, 0x50005, True),
        (0, 0x40000, True),  # in between
        (0x4, 0, True),
    ],
)
def test_throttled_is_what_happened_meanwhile(
    before: int | None, after: int | None, throttled: bool
) -> None:
    assert was_throttled(before, after) == throttled


def test_the_share_of_others_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tick = [100.0], os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr("bench.machine.time.perf_counter", lambda: clock[0])
    # user, nice, system, idle, iowait, irq, softirq, steal, guest
    write_files(tmp_path, {"proc/stat": "cpu  0 0 0 500 0 0 0 0 7\ncpu0 1 1\n"})
    watch = CpuWatch(tmp_path)
    cores = os.cpu_count() or 1
    clock[0] += 10
    used = 2 * cores * tick  # seconds of 10 that there were on each core
    busy = f"cpu  {used} {used} {used} 900 99 0 0 {used} 7\n"
    write_files(tmp_path, {"proc/stat": busy})
    assert watch.read().others_share == pytest.approx(0.8, abs=0.05)
    assert CpuWatch(tmp_path / "elsewhere").read() == Disturbance(None, False)
