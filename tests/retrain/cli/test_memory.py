"""Memory that was freed is the system's again."""

import platform

import psutil
import pytest

from retrain.cli.memory import release_free_memory


def held_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps free memory")
def test_what_glibc_keeps_is_returned() -> None:
    blocks = [bytearray(2000) for _ in range(50_000)]
    last = bytearray(2000)  # behind them, so that glibc does not return them by itself
    del blocks
    before = held_bytes()
    release_free_memory()
    assert before - held_bytes() > 50e6
    assert len(last) == 2000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    release_free_memory()
