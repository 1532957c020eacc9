"""The name of this machine's CPU, as people know it."""

import platform
from pathlib import Path


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name, and its board's: what `cpuinfo` or else the system calls them."""
    return _model(cpuinfo) or platform.processor() or platform.machine()


def _model(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    values = {key.strip(): value.strip() for key, _, value in pairs}
    # ARM boards: "Model" names the board (x86 has "model", a number), "model name" only "ARMv7".
    names = (values.get("Model"), values.get("model name") or values.get("Hardware"))
    return ", ".join(name for name in names if name)
