"""Runs that are killed at random moments: in the end the cache holds what an undisturbed run wrote.

`bench/experiments/kill.py` does more of the same, and of Ray's processes.
"""

import os
import signal
from pathlib import Path

import pytest

from bench.experiments.kill import kill_and_check
from tests.helpers.photos import LABELS, PER_LABEL

KILLS = 3
PHOTOS = PER_LABEL * len(LABELS)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_cache_survives_kills(photos: Path, cache_dir: Path, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    figures = kill_and_check(photos, tmp_path, KILLS, seed, prepared=cache_dir)
    assert figures.kills == KILLS
    assert figures.photos == PHOTOS
    assert len(figures.analysed_by_last_runs) == figures.caches
