"""The number of CPUs that this process may use: its affinity, and the quota of its control groups.

A container's quota (`docker run --cpus 2`, a CPU limit of Kubernetes, systemd's CPUQuota=) leaves
the affinity as it is. More threads than the quota pays for stop together once it is used up.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """Return how many CPUs this process may use, at least 1; a quota is rounded up.

    `root` is where the files of Linux are looked for. Other systems have neither: all CPUs count.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quota, in CPUs, of each control group that this process is in, directly or not."""
    paths = _paths(root)
    for line in _lines(root / "proc/self/mountinfo"):
        # Fields: ID, parent, device, root of the mount, mount point, options... - type, source,
        # options of the file system, which in version 1 name the controllers.
        before, _, after = line.partition(" - ")
        mount, kind, options = before.split(" "), after.split(" ")[0], after.split(" ")[-1]
        path = paths.get(kind)
        if path is None or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        top = root / _plain(mount[4]).lstrip("/")
        group = top / _below(path, _plain(mount[3]))
        while True:
            yield from _quota(group)
            if group == top:
                break
            group = group.parent


def _paths(root: Path) -> dict[str, str]:
    """Return this process's control group in either version, which has the quotas of CPU time."""
    found = {}
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            found["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            found["cgroup"] = path
    return found


def _below(path: str, mounted: str) -> str:
    """Return the group `path` below the group `mounted`: that one itself where it is outside.

    In a container, either may be named as the host names it.
    """
    inside, outside = PurePosixPath(path), PurePosixPath(mounted)
    if ".." in inside.parts or not inside.is_relative_to(outside):
        return ""
    return str(inside.relative_to(outside))


def _quota(group: Path) -> Iterator[int]:
    if (group / "cpu.max").exists():
        fields = " ".join(_lines(group / "cpu.max")).split()
    else:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        fields = [" ".join(_lines(group / name)) for name in names]
    try:
        quota, period = map(int, fields)
    except ValueError:  # "max", or no such files
        return
    if quota > 0 and period > 0:
        yield -(-quota // period)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _plain(text: str) -> str:
    """Return a field of `mountinfo` whose escaped characters, in octal, are themselves."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
