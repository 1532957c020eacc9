"""Count the CPUs that this process may use: its affinity, and the quota of its control groups.

A container's quota (`docker run --cpus 2`, a CPU limit of Kubernetes, systemd's CPUQuota=) leaves
the affinity as it is. With more threads than the quota, all stop when the quota is used up.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """Return how many CPUs this process may use, at least 1; a quota is rounded up.

    `root` is the folder of Linux' files. On other systems all CPUs count.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quota, in CPUs, of this process' control groups and all groups above them."""
    paths = _paths(root)
    for line in _lines(root / "proc/self/mountinfo"):
        # Fields: ID, parent, device, root of the mount, mount point, options... - type, source,
        # options of the file system, which in version 1 name the controllers.
        before, _, after = line.partition(" - ")
        mount, kind, options = before.split(" "), after.split(" ")[0], after.split(" ")[-1]
        path = paths.get(kind)
        if path is None or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        top = root / _unescape(mount[4]).lstrip("/")
        group = top / _below(path, _unescape(mount[3]))
        while True:
            yield from _quota(group)
            if group == top:
                break
            group = group.parent


def _paths(root: Path) -> dict[str, str]:
    """Return the path of this process' control group for CPU time, by version of control groups."""
    paths = {}
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            paths["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = path
    return paths


def _below(path: str, mounted: str) -> str:
    """Return the path of a group relative to the group `mounted`, "" if it is outside.

    In a container, either may have the name that the host uses.
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


def _unescape(text: str) -> str:
    """Return a field of `mountinfo` with its octal escapes replaced by the characters."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
