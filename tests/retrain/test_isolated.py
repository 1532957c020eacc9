"""A process of its own: what it makes comes back, and whatever becomes of it is one line."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.errors import BadData, GateFailed
from retrain.isolated import apart


def product(a: int, b: int) -> int:
    print("chatter")
    print("chatter", file=sys.stderr)
    return a * b


def refuse() -> None:
    raise GateFailed("not good enough")


def fail() -> None:
    raise ValueError("\n  the first line\nthe second")


def die() -> None:
    os.write(2, b"a last word\n")
    os.abort()


def test_a_result_comes_back_and_chatter_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    assert apart("a product", 60, product, 6, 7) == 42
    assert capfd.readouterr() == ("", "")


def test_our_own_errors_come_through() -> None:
    with pytest.raises(GateFailed, match=r"^not good enough$"):
        apart("it", 60, refuse)


def test_others_are_one_line() -> None:
    with pytest.raises(BadData, match=r"^it failed: the first line$"):
        apart("it", 60, fail)


def test_a_death_is_told_with_its_last_words() -> None:
    with pytest.raises(BadData, match=r"^it died: a last word$"):
        apart("it", 60, die)


def test_who_runs_out_of_memory_is_told_so() -> None:
    with pytest.raises(BadData, match=r"^it died: killed by the system.*memory"):
        apart("it", 60, signal.raise_signal, signal.SIGKILL)


def test_no_file_of_the_current_folder_stands_in_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert apart("a root", 60, math.sqrt, 49.0) == 7


def test_what_never_ends_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(BadData, match=r"^it took longer than 0\.5 s$"):
        apart("it", 0.5, time.sleep, 600)
    assert time.monotonic() - start < 60


SCRIPT = """
print("started")
import math
from retrain.isolated import apart
print(apart("a root", 60, math.sqrt, 49.0))
"""


def test_the_callers_script_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["started", "7.0"], done.stderr
