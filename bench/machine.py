"""Describe the machine that figures are measured on, and what else used its CPU meanwhile."""

import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.system.machine import cpu_name, governor, temperature, text_of, throttled_bits

BUSY_SHARE = 0.1
"""A round in which others take more than this share of all cores is a busy one."""
ROOT = Path("/")
_NOW_BITS, _SINCE_BOOT_BITS = 0xF, 0xF0000
"""Bits of a Raspberry Pi's `get_throttled`: too little voltage, clock capped, throttled, hot."""


@dataclass(frozen=True)
class Machine:
    """What decides how fast a model runs; `cores` are the logical ones.

    The governor, and the memory in bytes, are None where the system does not report them.
    """

    cpu: str
    architecture: str
    cores: int
    os: str
    python: str
    governor: str | None
    memory_bytes: int | None


@dataclass(frozen=True)
class State:
    """Load of the last minute, MHz, degrees Celsius, bits of `get_throttled`; None if unknown."""

    load: float | None
    mhz: float | None
    celsius: float | None
    throttled: int | None


@dataclass(frozen=True)
class Disturbance:
    """The share of all cores that other processes and machines took, None where unknown.

    `throttled` says whether the CPU was slowed down meanwhile.
    """

    others_share: float | None
    throttled: bool


def read_machine(root: Path = ROOT) -> Machine:
    """Return this machine, from the files under `root` or else from Python."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", text_of(root / "proc/meminfo") or "")
    return Machine(
        cpu=cpu_name(root / "proc/cpuinfo"),
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        os=platform.platform(),
        python=platform.python_version(),
        governor=governor(root),
        memory_bytes=int(memory[1]) * 1024 if memory else None,
    )


def read_state(root: Path = ROOT) -> State:
    """Return the state of the machine now."""
    khz = text_of(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    mhz = re.search(r"cpu MHz\s*:\s*([\d.]+)", text_of(root / "proc/cpuinfo") or "")
    return State(
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        mhz=int(khz) / 1e3 if khz else float(mhz[1]) if mhz else None,
        celsius=temperature(root),
        throttled=throttled_bits(),
    )


class CpuWatch:
    """Watch, from its making on, what others take of the CPU, and whether it is throttled."""

    def __init__(self, root: Path = ROOT) -> None:
        """Start to watch; `root` holds the files of the system."""
        self._root = root
        self._before = (*_cpu_seconds(root), time.perf_counter(), throttled_bits())

    def read(self) -> Disturbance:
        """Return what disturbed this process until now."""
        busy, own, clock, bits = self._before
        busy_after, own_after = _cpu_seconds(self._root)
        share = None
        if busy is not None and busy_after is not None:
            available = (time.perf_counter() - clock) * (os.cpu_count() or 1)
            share = max(0.0, (busy_after - busy - (own_after - own)) / available)
        return Disturbance(share, was_throttled(bits, throttled_bits()))


def was_throttled(before: int | None, after: int | None) -> bool:
    """Return whether the bits of `get_throttled` show throttling before, after or in between."""
    if before is None or after is None:
        return False
    return bool((before | after) & _NOW_BITS or (before ^ after) & _SINCE_BOOT_BITS)


def _cpu_seconds(root: Path) -> tuple[float | None, float]:
    """Return the seconds that all cores were used, stolen ones too, and those of this process.

    Its children count as this process. The first is None where the system does not report it.
    """
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    fields = (text_of(root / "proc/stat") or "").split("\n", 1)[0].split()[1:9]
    if len(fields) < 8:
        return None, own
    user, nice, system, _, _, irq, softirq, stolen = map(int, fields)
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK"), own
