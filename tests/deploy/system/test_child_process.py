"""Children end with their parent, also when it is killed and when they hold Python's lock."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")

CHILD = """
import os, sys, time
from pathlib import Path
def child(path, busy):
    Path(path).write_text(str(os.getpid()))
    if busy:  # holds Python's lock: a regular expression is native code
        import re
        re.match("(a*)*b", "a" * 40)
    time.sleep(60)
"""
APART = """
import job
from retrain.isolated import run_isolated
run_isolated("it", 60, job.child, path, busy)
"""
BENCH = """
from bench.worker_process import call, packages
with packages() as folder:
    call("it", "job:child", {"path": path, "busy": busy}, folder)
"""
TARGET = """
from retrain.conversion.prove_goldens import prove_goldens
prove_goldens(Path(path).with_name("python"), Path(path).with_name("model"))
"""
PARENT = """
import sys
from pathlib import Path
path, busy = sys.argv[1], sys.argv[2] == "busy"
"""
PYTHON = """#!/bin/sh
case "$1" in -c) ;; *) echo $$ > "{path}" ;; esac
exec "{python}" "$@"
"""
PATIENCE_S = 20.0


def wait(until: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(until())


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be collected does not."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return process.stdout.strip()[:1] not in ("", "Z")


@pytest.mark.parametrize(
    ("code", "state", "kill"),
    [
        (APART, "busy", signal.SIGKILL),
        (APART, "asleep", signal.SIGHUP),
        (BENCH, "asleep", signal.SIGKILL),
        (BENCH, "busy", signal.SIGTERM),
        (TARGET, "asleep", signal.SIGKILL),
    ],
    ids=["isolated, busy", "isolated", "bench", "bench, busy", "target Python"],
)
def test_a_child_ends_with_its_parent(
    code: str, state: str, kill: signal.Signals, tmp_path: Path
) -> None:
    if state == "busy" and sys.platform != "linux":
        pytest.skip("only Linux ends a child that holds Python's lock")
    (tmp_path / "job.py").write_text(CHILD)
    path, python = tmp_path / "process", tmp_path / "python"
    python.write_text(PYTHON.format(path=path, python=sys.executable))
    python.chmod(0o755)
    os.mkfifo(tmp_path / "model")  # whoever reads it waits for ever
    settings = {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PARENT + code, str(path), state]
    with subprocess.Popen(command, env=settings) as parent:
        assert wait(lambda: path.exists() and path.read_text())
        child = int(path.read_text())
        assert alive(child)
        parent.send_signal(kill)
    assert wait(lambda: not alive(child), 1.0), "the child outlived its parent by a second"
