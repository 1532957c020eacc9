"""The machine that a figure was measured on, and the file that keeps the two together."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy import files
from deploy.machine import cpu_name

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Machine:
    """What decides how fast a model runs; `cores` are the logical ones."""

    cpu: str
    architecture: str
    cores: int
    os: str
    python: str


def read_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Return this machine, its CPU by the name that `cpuinfo` or else the system gives it."""
    return Machine(
        cpu=cpu_name(cpuinfo),
        architecture=platform.machine(),
        cores=os.cpu_count() or 1,
        os=platform.platform(),
        python=platform.python_version(),
    )


def save(path: Path, figures: dict[str, Any]) -> str:
    """Write `figures` with a schema version and this machine as JSON; return the text written.

    The file `path` is whole or as it was before. Raises OSError.
    """
    record = {"schema": SCHEMA_VERSION, "machine": asdict(read_machine()), **figures}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    files.write(path, text)
    return text
