"""Describe this machine: CPU, board, system, temperature, throttling."""

import platform
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

NO_FAST_INT8 = "this runtime has no fast int8 kernels on x86 (it has on ARM)"
_X86 = ("x86_64", "amd64", "i386", "i686")
_ROOT = Path("/")
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "VNNI",
    "avx512_vnni": "VNNI",
    "amx_int8": "AMX",
    "asimddp": "dot product",
    "i8mm": "int8 matrix product",
}
"""Linux's names of the vector instructions that decide how fast int8 is, and ours."""
_THROTTLING = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


@dataclass(frozen=True)
class Device:
    """The properties of a machine that decide how fast a model runs; None is unknown.

    `bits` are Python's, which may be fewer than the kernel's; `temperature_c` is in degrees
    Celsius; `throttling` names the limits of a Raspberry Pi's firmware, now or since its start.
    """

    board: str | None
    cpu: str
    architecture: str
    bits: int
    os: str
    kernel: str
    python: str
    governor: str | None
    temperature_c: float | None
    throttling: str | None


def device(root: Path = _ROOT) -> Device:
    """Return the properties of this machine; `root` is the folder of its files."""
    board = text_of(root / "proc/device-tree/model")
    return Device(
        board=board.rstrip("\0") if board else None,
        cpu=cpu_name(root / "proc/cpuinfo"),
        architecture=platform.machine(),
        bits=8 * struct.calcsize("P"),
        os=_os(root) or platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        governor=governor(root),
        temperature_c=temperature(root),
        throttling=throttling(),
    )


def lacks_fast_int8(runtime: str, architecture: str) -> bool:
    """Return whether NO_FAST_INT8 is true for the TFLite runtime of this name."""
    return runtime == "tflite-runtime" and architecture.lower() in _X86


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the CPU, on ARM with the board's, from `cpuinfo` or the system.

    Vector instructions that decide how fast int8 is follow: generations may share their name.
    """
    values = _read_pairs(cpuinfo)
    # ARM boards: "Model" names the board (x86 has "model", a number), "model name" only "ARMv7".
    models = (values.get("Model"), values.get("model name") or values.get("Hardware"))
    names = [name for name in models if name] or [platform.processor() or platform.machine()]
    flags = (values.get("flags") or values.get("Features") or "").split()
    instructions = (ours for name, ours in _INSTRUCTIONS.items() if name in flags)
    return ", ".join([*names, *dict.fromkeys(instructions)])


def is_same_cpu(name: str, other: str) -> bool:
    """Return whether two results of `cpu_name` may be of one CPU.

    Names that earlier versions of this package wrote have no vector instructions.
    """
    bare, whole = sorted((name.split(", "), other.split(", ")), key=len)
    instructions = _INSTRUCTIONS.values()
    return bare == whole or bare == [part for part in whole if part not in instructions]


def temperature(root: Path = _ROOT) -> float | None:
    """Return the CPU's temperature in degrees Celsius, or None if the kernel has none."""
    text = text_of(root / "sys/class/thermal/thermal_zone0/temp")
    try:
        return int(text) / 1000 if text else None
    except ValueError:
        return None


def throttling() -> str | None:
    """Return the limits of a Raspberry Pi's firmware, in words, or None on other machines."""
    bits = throttled_bits()
    if bits is None:
        return None
    current = [f"{name} now" for i, name in enumerate(_THROTTLING) if bits >> i & 1]
    earlier = [
        f"{name} since it started" for i, name in enumerate(_THROTTLING) if bits >> 16 + i & 1
    ]
    return ", ".join(current + earlier) or "none"


def throttled_bits() -> int | None:
    """Return the bits of a Raspberry Pi's `get_throttled`, or None on other machines."""
    program = shutil.which("vcgencmd")
    if not program:
        return None
    command = [program, "get_throttled"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=1, check=True)  # noqa: S603
        return int(result.stdout.partition("=")[2], 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def governor(root: Path = _ROOT) -> str | None:
    """Return the name of the CPU's frequency governor, or None if it is unknown."""
    return text_of(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def text_of(path: Path) -> str | None:
    """Return the text of a file of the system, or None if it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _os(root: Path) -> str | None:
    lines = (text_of(root / "etc/os-release") or "").splitlines()
    names = [
        line.partition("=")[2].strip("\"'") for line in lines if line.startswith("PRETTY_NAME=")
    ]
    return names[0] if names else None


def _read_pairs(cpuinfo: Path) -> dict[str, str]:
    """Return the names and values of `cpuinfo`, those of its last core and of the board."""
    lines = (text_of(cpuinfo) or "").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
