"""Test `--resume`: a killed run ends as an unbroken one, and extracts no photo twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from retrain.run_folder import lock_file
from retrain.training.checkpoint import Checkpoint
from tests.helpers.photos import LABELS, PER_LABEL
from tests.helpers.runs import Invoke

KILLS = 3
"""The first is during extraction, the others during training."""
STEPS = 4000
PHOTOS = PER_LABEL * len(LABELS)
PATIENCE_S = 60


def command(photos: Path, cache_dir: Path, folder: Path, *more: object) -> list[str]:
    """Return `retrain train` on `photos`, with a run and bottlenecks of its own in `folder`."""
    options: list[object] = ["--cache-dir", cache_dir, "--output-dir", folder / "run"]
    options += ["--bottleneck-dir", folder / "bottlenecks", "--how-many-training-steps", STEPS]
    return ["train", "--no-report", *map(str, (photos, *options, *more))]


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "retrain", *arguments], stdout=subprocess.DEVNULL, stderr=stream
        )


def metrics(run: Path) -> Any:
    return json.loads((run / "metrics.json").read_text("utf-8"))


def shards(folder: Path) -> list[Path]:
    return list((folder / "bottlenecks").glob("*/shard-*.parquet"))


def analysed(folder: Path) -> list[tuple[bytes, int]]:
    """Return digest and view of each row of each shard."""
    tables = [pq.read_table(path, columns=["digest", "view"]) for path in shards(folder)]
    return [(row["digest"], row["view"]) for table in tables for row in table.to_pylist()]


def kill(process: subprocess.Popen[bytes], ready: Callable[[], bool], delay: float) -> None:
    """Kill `process` when it is `ready`, and `delay` seconds later; it must be at work by then."""
    end = time.monotonic() + PATIENCE_S
    try:
        while not ready() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.005)
        time.sleep(delay)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_run_ends_as_the_unbroken_one_and_analyses_nothing_again(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path: Path
) -> None:
    seed = int.from_bytes(os.urandom(4))
    random = np.random.default_rng(seed)
    print(f"seed {seed}")
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    result = invoke(*command(photos, cache_dir, unbroken))
    assert result.exit_code == 0, result.output

    checkpoint, log = broken / "run" / "checkpoint.npz", tmp_path / "log"
    arguments = command(photos, cache_dir, broken)
    enough = int(random.integers(1, 4))
    kill(start(arguments, log), lambda: len(shards(broken)) >= enough, random.uniform(0, 0.1))
    first = analysed(broken)
    print(f"killed with {len(first)} of {PHOTOS} photos in shards")

    arguments.append("--resume")
    for attempt in range(KILLS - 1):
        before = checkpoint.read_bytes() if checkpoint.exists() else b""
        process = start(arguments, log)

        def ready(old: bytes = before) -> bool:
            return checkpoint.exists() and checkpoint.read_bytes() != old

        kill(process, ready, random.uniform(0, 0.3))
        print(f"killed after step {Checkpoint.from_bytes(checkpoint.read_bytes())[1].step}")
        cached = PHOTOS if attempt else len(first)
        line = f"{PHOTOS - cached} photos analysed now, {cached} taken from the cache"
        assert line in log.read_text("utf-8")
    assert not (broken / "run" / "output_graph.pb").exists()
    assert start(arguments, log).wait(PATIENCE_S) == 0, log.read_text("utf-8")

    step = Checkpoint.from_bytes(checkpoint.read_bytes())[1].step
    assert step == STEPS
    assert "going on at step" in log.read_text("utf-8")
    for name in ("output_graph.pb", "contract.json", "checkpoint.npz", "manifest.csv"):
        assert (broken / "run" / name).read_bytes() == (unbroken / "run" / name).read_bytes(), name
    assert metrics(broken / "run")["analysed"] == 0
    assert metrics(broken / "run")["curves"] == metrics(unbroken / "run")["curves"]
    rows = analysed(broken)
    assert len(rows) == len(set(rows)) == PHOTOS
    assert set(first) <= set(rows)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of `trained`, as a run of the same arguments left it."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def resume(photos: Path, cache_dir: Path, run: Path, invoke: Invoke) -> Invoke:
    """Return what trains in `run` as `trained` was, with --resume and other options."""
    where = (photos, "--cache-dir", cache_dir, "--output-dir", run)
    fixed = ("train", *where, "--how-many-training-steps", 400, "--resume")
    return lambda *more: invoke(*fixed, *more)


def graph(run: Path) -> bytes:
    return (run / "output_graph.pb").read_bytes()


def test_a_finished_run_resumed_writes_the_same_again(
    run: Path, trained: Path, resume: Invoke
) -> None:
    (run / "output_graph.pb").unlink()
    result = resume()
    assert result.exit_code == 0, result.output
    assert f"going on at step 400, from {run / 'checkpoint.npz'}" in result.stderr
    assert graph(run) == graph(trained)
    assert metrics(run)["curves"] == metrics(trained)["curves"]
    assert len(metrics(run)["curves"]["linear"]["step"]) > 10


def test_without_a_checkpoint_a_run_starts_at_the_beginning_and_says_so(
    run: Path, trained: Path, resume: Invoke
) -> None:
    (run / "checkpoint.npz").unlink()
    (run / "output_graph.pb").unlink()
    result = resume()
    assert result.exit_code == 0, result.output
    line = f"{run / 'checkpoint.npz'}: no checkpoint: training from the beginning"
    assert line in result.stderr
    assert graph(run) == graph(trained)
    assert (run / "checkpoint.npz").read_bytes() == (trained / "checkpoint.npz").read_bytes()


def test_a_checkpoint_may_be_elsewhere(
    run: Path, trained: Path, resume: Invoke, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "else" / "where"
    assert "no checkpoint" in resume("--checkpoint-path", elsewhere).stderr
    assert elsewhere.read_bytes() == (trained / "checkpoint.npz").read_bytes()
    (run / "checkpoint.npz").write_bytes(b"of no interest")
    assert f"going on at step 400, from {elsewhere}" in (
        resume("--checkpoint-path", elsewhere).stderr
    )


def test_two_runs_have_two_checkpoints(trained: Path, resume: Invoke, tmp_path: Path) -> None:
    """The second would replace that of the first."""
    elsewhere = tmp_path / "checkpoint"
    with lock_file(elsewhere, "checkpoint_path"):
        result = resume("--checkpoint-path", elsewhere)
        assert result.exit_code == 2
        assert f"{elsewhere}: another retrain is writing there: wait" in result.stderr
        assert "name another --checkpoint-path" in result.stderr
        assert not elsewhere.exists()
        assert resume("--checkpoint-path", tmp_path / "another").exit_code == 0
    assert resume("--checkpoint-path", elsewhere).exit_code == 0
    assert elsewhere.read_bytes() == (trained / "checkpoint.npz").read_bytes()


def test_a_file_beside_the_checkpoint_stays_without_fine_tuning(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path: Path
) -> None:
    beside = tmp_path / "mine_fine_tuning.npz"
    beside.write_bytes(b"a file of the user")
    path = tmp_path / "mine.npz"
    result = invoke(*command(photos, cache_dir, tmp_path / "run", "--checkpoint-path", path))
    assert result.exit_code == 0, result.output
    assert beside.read_bytes() == b"a file of the user"


def test_a_device_in_the_place_of_the_checkpoint_stays(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path: Path
) -> None:
    device = tmp_path / "null"
    device.symlink_to(os.devnull)
    result = invoke(*command(photos, cache_dir, tmp_path, "--checkpoint-path", device))
    assert result.exit_code == 0, result.output
    assert device.readlink() == Path(os.devnull)


def refused(result: Result, path: Path) -> str:
    """Return the message of a run that refused the checkpoint at `path`."""
    assert result.exit_code == 3
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {path}: ")
    assert error.endswith(": leave out --resume to train anew")
    return error


def test_a_damaged_checkpoint_is_refused_and_the_old_results_stay(
    run: Path, trained: Path, resume: Invoke
) -> None:
    path = run / "checkpoint.npz"
    content = path.read_bytes()[:-1]
    path.write_bytes(content)
    assert "not a checkpoint, or damaged" in refused(resume(), path)
    assert path.read_bytes() == content
    assert graph(run) == graph(trained)


def test_a_checkpoint_of_other_settings_is_refused(
    run: Path, trained: Path, resume: Invoke
) -> None:
    path = run / "checkpoint.npz"
    assert "other settings or photos" in refused(resume("--learning-rate", 0.02), path)
    assert graph(run) == graph(trained)
