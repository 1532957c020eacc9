"""How many CPUs this process may use: affinity, and quotas of either version of control groups."""

import os
from pathlib import Path

import pytest

from deploy.system.cores import cores

V2 = "31 23 0:28 {root} {point} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} {point} rw,relatime - cgroup cgroup rw,{controllers}"


@pytest.fixture(autouse=True)
def affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def system(root: Path, cgroup: str, mounts: list[str], quotas: dict[str, str]) -> Path:
    """Write the files of Linux that tell of control groups below `root`."""
    for name, text in {
        "proc/self/cgroup": cgroup + "\n",
        "proc/self/mountinfo": "\n".join(["22 1 0:2 / / rw - ext4 /dev/vda rw", *mounts]) + "\n",
        **{f"sys/fs/cgroup/{name}": text for name, text in quotas.items()},
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(root: Path, quotas: dict[str, str], group: str = "/a/b", mounted: str = "/") -> Path:
    mount = V2.format(root=mounted, point="/sys/fs/cgroup")
    return system(root, f"0::{group}", [mount], {f"{n}cpu.max": t for n, t in quotas.items()})


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({"a/b/": "max 100000\n"}, 16),
        ({"a/b/": "200000 100000\n"}, 2),
        ({"a/b/": "150000 100000\n"}, 2),
        ({"a/b/": "10000 100000\n"}, 1),
        ({"a/b/": "1000 1000000\n"}, 1),
        ({"a/b/": "6400000 100000\n"}, 16),
        ({"a/b/": "max 100000\n", "a/": "300000 100000\n"}, 3),
        ({"a/b/": "900000 100000\n", "a/": "300000 100000\n", "": "200000 50000\n"}, 3),
        ({"a/b/": "400000 100000\n", "a/b/c/": "100000 100000\n", "x/": "1 1000\n"}, 4),
        ({"a/b/": ""}, 16),
        ({"a/b/": "many CPUs\n"}, 16),
        ({"a/b/": "100000 0\n"}, 16),
        ({"a/b/": "100000\n"}, 16),
        ({}, 16),
    ],
)
def test_quota_of_version_2(tmp_path: Path, quotas: dict[str, str], expected: int) -> None:
    assert cores(v2(tmp_path, quotas)) == expected


@pytest.mark.parametrize(
    ("group", "mounted", "quotas", "expected"),
    [
        ("/", "/", {"": "100000 50000"}, 2),  # Docker with its own namespace
        ("/docker/1f", "/docker/1f", {"": "300000 100000"}, 3),  # without one, bind-mounted
        ("/docker/1f/x", "/docker/1f", {"x/": "400000 100000"}, 4),
        ("/docker/1f", "/../..", {"": "500000 100000"}, 5),
        ("/../other", "/", {"": "600000 100000", "../other/": "100000 100000"}, 6),
        ("/my job: 2/b", "/", {"my job: 2/b/": "100000 100000"}, 1),
        ("/b", "/my\\040job", {"": "700000 100000"}, 7),
    ],
)
def test_group_as_a_container_names_it(
    tmp_path: Path, group: str, mounted: str, quotas: dict[str, str], expected: int
) -> None:
    assert cores(v2(tmp_path, quotas, group, mounted)) == expected


@pytest.mark.parametrize(
    ("controllers", "quota", "period", "expected"),
    [
        ("cpu", "250000", "100000", 3),
        ("cpu,cpuacct", "100000", "50000", 2),
        ("cpuacct,cpu", "-1", "100000", 16),
        ("cpuacct", "100000", "100000", 16),
        ("cpuset", "100000", "100000", 16),
    ],
)
def test_quota_of_version_1(
    tmp_path: Path, controllers: str, quota: str, period: str, expected: int
) -> None:
    mounts = [
        V2.format(root="/", point="/sys/fs/cgroup/unified"),
        V1.format(root="/", point="/sys/fs/cgroup/cpu", controllers=controllers),
    ]
    files = {"cpu/a/cpu.cfs_quota_us": quota, "cpu/a/cpu.cfs_period_us": period}
    assert cores(system(tmp_path, f"4:{controllers}:/a\n0::/", mounts, files)) == expected


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    mount = V2.format(root="/", point="/sys/fs/cgroup/the\\040groups")
    files = {"the groups/a/cpu.max": "300000 100000"}
    assert cores(system(tmp_path, "0::/a", [mount], files)) == 3


@pytest.mark.parametrize("text", ["", "\n", "0\n", "::\n", "0::\n", "a b c\n", "\udce9:cpu:/\n"])
def test_files_that_say_nothing(tmp_path: Path, text: str) -> None:
    root = v2(tmp_path, {})
    (root / "proc/self/cgroup").write_text(text, "utf-8", "surrogateescape")
    assert cores(root) == 16
    (root / "proc/self/mountinfo").write_text(text, "utf-8", "surrogateescape")
    assert cores(root) == 16


def test_affinity_below_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 7, 9}, raising=False)
    assert cores(v2(tmp_path, {"a/b/": "800000 100000"})) == 3
    assert cores(tmp_path / "nothing") == 3


def test_without_affinity_all_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores(tmp_path) == 1
