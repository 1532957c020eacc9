"""The machine that a figure was measured on, and what it was busy with meanwhile."""

import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deploy import files
from deploy.system.machine import cpu_name, governor, temperature, text_of, throttled_bits

SCHEMA_VERSION = 3
BUSY = 0.1
"""Others that take more than this share of all cores during a round make it a busy one."""
ROOT = Path("/")
_NOW, _SINCE_BOOT = 0xF, 0xF0000
"""Bits of a Raspberry Pi's `get_throttled`: too little voltage, clock capped, throttled, hot."""


@dataclass(frozen=True)
class Machine:
    """What decides how fast a model runs; `cores` are the logical ones.

    None is what the system does not tell: the governor, memory in bytes.
    """

    cpu: str
    architecture: str
    cores: int
    os: str
    python: str
    governor: str | None
    memory_bytes: int | None


class State(NamedTuple):
    """What changes: load of the last minute, MHz, degrees Celsius, bits of `get_throttled`."""

    load: float | None
    mhz: float | None
    celsius: float | None
    throttled: int | None


def read_machine(root: Path = ROOT) -> Machine:
    """Return this machine, as the files under `root` or else Python tell of it."""
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
    """Return what the machine does now; each None where the system does not tell."""
    khz = text_of(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    mhz = re.search(r"cpu MHz\s*:\s*([\d.]+)", text_of(root / "proc/cpuinfo") or "")
    return State(
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        mhz=int(khz) / 1e3 if khz else float(mhz[1]) if mhz else None,
        celsius=temperature(root),
        throttled=throttled_bits(),
    )


class Watch:
    """From its making to `seen`: what others took of the CPU, and whether it was throttled."""

    def __init__(self, root: Path = ROOT) -> None:
        """Start to watch."""
        self._root = root
        self._before = (*_cpu_seconds(root), time.perf_counter(), throttled_bits())

    def seen(self) -> dict[str, Any]:
        """Return `others` and `throttled`.

        The first is the share of all cores that other processes and machines took, None where the
        system does not tell.
        """
        busy, ours, clock, bits = self._before
        busy_now, ours_now = _cpu_seconds(self._root)
        others = None
        if busy is not None and busy_now is not None:
            free = (time.perf_counter() - clock) * (os.cpu_count() or 1)
            others = max(0.0, (busy_now - busy - (ours_now - ours)) / free)
        return {"others": others, "throttled": was_throttled(bits, throttled_bits())}


def was_throttled(before: int | None, after: int | None) -> bool:
    """Return whether bits of `get_throttled` say so, of either moment or of the time between."""
    if before is None or after is None:
        return False
    return bool((before | after) & _NOW or (before ^ after) & _SINCE_BOOT)


def save(path: Path, figures: dict[str, Any]) -> str:
    """Write `figures` with a schema version and this machine as JSON; return the text written.

    The file `path` is whole or as it was before. Raises OSError.
    """
    text = to_json(described(figures))
    files.write(path, text)
    return text


def to_json(record: Any) -> str:
    """Return `record` as indented JSON text."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def described(figures: dict[str, Any]) -> dict[str, Any]:
    """Return `figures` after a schema version and this machine."""
    return {"schema": SCHEMA_VERSION, "machine": asdict(read_machine()), **figures}


def _cpu_seconds(root: Path) -> tuple[float | None, float]:
    """Return the seconds of all cores that were used, stolen ones too, and those used by us."""
    mine = os.times()
    ours = mine.user + mine.system + mine.children_user + mine.children_system
    fields = (text_of(root / "proc/stat") or "").split("\n", 1)[0].split()[1:9]
    if len(fields) < 8:
        return None, ours
    user, nice, system, _, _, irq, softirq, stolen = map(int, fields)
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK"), ours
