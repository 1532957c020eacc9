"""`--resume`: a killed run goes on to the weights of the unbroken one, analysing nothing twice."""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from PIL import Image

from retrain.bottlenecks.feature_store import FeatureStore
from retrain.settings.training import HeadSettings
from retrain.training.head import Examples, Head
from retrain.training.linear import Evaluation, State, fit
from tests.conftest import EACH, LABELS, Invoke

KILLS = 3
"""The first is during extraction, the others during training."""
STEPS = 8000
PHOTOS = EACH * len(LABELS)
PATIENCE_S = 60


def command(photos: Path, cache_dir: Path, folder: Path, *more: object) -> list[str]:
    """Return `retrain train` on `photos`, with a run and bottlenecks of its own in `folder`."""
    options = ("--cache-dir", cache_dir, "--output-dir", folder / "run")
    options += ("--bottleneck-dir", folder / "bottlenecks", "--how-many-training-steps", STEPS)
    return ["train", *(str(each) for each in (photos, *options, *more))]


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "retrain", *arguments], stdout=subprocess.DEVNULL, stderr=stream
        )


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
    for turn in range(KILLS - 1):
        before = checkpoint.read_bytes() if checkpoint.exists() else b""
        process = start(arguments, log)

        def ready(old: bytes = before) -> bool:
            return checkpoint.exists() and checkpoint.read_bytes() != old

        kill(process, ready, random.uniform(0, 0.5))
        print(f"killed after step {State.from_bytes(checkpoint.read_bytes())[1].step}")
        known = PHOTOS if turn else len(first)
        told = f"{PHOTOS - known} photos analysed now, {known} taken from the cache"
        assert told in log.read_text("utf-8")
    assert not (broken / "run" / "output_graph.pb").exists()
    assert start(arguments, log).wait(PATIENCE_S) == 0, log.read_text("utf-8")

    step = State.from_bytes(checkpoint.read_bytes())[1].step
    assert step == STEPS
    assert "going on at step" in log.read_text("utf-8")
    for name in ("output_graph.pb", "contract.json", "checkpoint.npz", "manifest.csv"):
        assert (broken / "run" / name).read_bytes() == (unbroken / "run" / name).read_bytes(), name
    assert json.loads((broken / "run" / "metrics.json").read_bytes())["analysed"] == 0
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


def test_without_a_checkpoint_a_run_starts_at_the_beginning_and_says_so(
    run: Path, trained: Path, resume: Invoke
) -> None:
    (run / "checkpoint.npz").unlink()
    (run / "output_graph.pb").unlink()
    result = resume()
    assert result.exit_code == 0, result.output
    said = f"{run / 'checkpoint.npz'}: no checkpoint: training from the beginning"
    assert said in result.stderr
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


def refused(result: Result, path: Path) -> str:
    """Return the message of a run that refused the checkpoint at `path`."""
    assert result.exit_code == 3
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {path}: ")
    assert error.endswith(": leave out --resume to train anew")
    return error


def npz(**values: object) -> bytes:
    content = io.BytesIO()
    np.savez(content, **values)  # type: ignore[arg-type]
    return content.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:9000] + bytes([content[9000] ^ 1]) + content[9001:],
        lambda _: b"step 400\n",
        lambda _: npz(weights=np.zeros((3, 2))),
        lambda _: npz(key=np.array([{"a": "pickle"}], object)),
        lambda _: npz(**dict.fromkeys(("key", "step", "weights", "bias"), "words")),
    ],
    ids=["empty", "half", "cut", "flipped", "text", "foreign", "pickle", "words"],
)
def test_what_is_no_checkpoint_is_refused_and_the_old_results_stay(
    run: Path, trained: Path, resume: Invoke, damage: Callable[[bytes], bytes]
) -> None:
    path = run / "checkpoint.npz"
    content = damage(path.read_bytes())
    path.write_bytes(content)
    assert "not a checkpoint, or damaged" in refused(resume(), path)
    assert path.read_bytes() == content
    assert graph(run) == graph(trained)


def test_a_checkpoint_that_cannot_be_read_is_refused(run: Path, resume: Invoke) -> None:
    path = run / "checkpoint.npz"
    path.unlink()
    path.mkdir()
    assert "cannot be read" in refused(resume(), path)


@pytest.mark.parametrize(
    "other",
    [
        ("--how-many-training-steps", 401),
        ("--learning-rate", 0.02),
        ("--optimizer", "sgd"),
        ("--weight-decay", 0.2),
        ("--class-weight", "balanced"),
        ("--seed", 1),
        ("--split-salt", "other"),
        ("--testing-percentage", 20),
        ("--flip-left-right", "--views", 1),
    ],
    ids=lambda other: other[0].strip("-"),
)
def test_a_checkpoint_of_other_settings_is_refused(
    run: Path, trained: Path, resume: Invoke, other: tuple[object, ...]
) -> None:
    assert "other settings or photos" in refused(resume(*other), run / "checkpoint.npz")
    assert graph(run) == graph(trained)


def test_a_checkpoint_of_another_folder_is_refused(
    run: Path, photos: Path, cache_dir: Path, invoke: Invoke, tmp_path: Path
) -> None:
    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    (victim,) = other.glob(f"{LABELS[0]}/00.*")
    Image.new("RGB", (96, 96), (50, 100, 150)).save(victim)
    options = ("--cache-dir", cache_dir, "--output-dir", run, "--how-many-training-steps", 400)
    result = invoke("train", other, *options, "--resume")
    assert "other settings or photos" in refused(result, run / "checkpoint.npz")


def test_the_place_of_the_photos_does_not_matter(
    run: Path, trained: Path, photos: Path, cache_dir: Path, invoke: Invoke, tmp_path: Path
) -> None:
    other = tmp_path / "moved"
    shutil.copytree(photos, other)
    options = ("--cache-dir", cache_dir, "--output-dir", run, "--how-many-training-steps", 400)
    result = invoke("train", other, *options, "--resume")
    assert result.exit_code == 0, result.output
    assert graph(run) == graph(trained)


def noisy(seed: int) -> Examples:
    """Return three classes, two views of each photo, that are hard to tell apart."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), (40, 30, 10))
    points = random.normal(size=(80, 2, 8)) + 0.4 * np.eye(3, 8)[labels][:, np.newaxis]
    return Examples(FeatureStore.of(points.reshape(160, 8)), np.arange(160).reshape(80, 2), labels)


def rounds(config: HeadSettings, state: State | None = None) -> Iterator[tuple[Evaluation, State]]:
    for each in fit(noisy(0), noisy(1), 3, config, state):
        if each.state:
            yield each, each.state


@pytest.mark.parametrize(
    "config",
    [
        HeadSettings(100, 0.1),
        HeadSettings(100, 0.1, optimizer="sgd", class_weight="balanced", validation_batch_size=-1),
        HeadSettings(7),
        HeadSettings(100, 0.1, early_stop=2),
    ],
)
def test_a_run_broken_at_any_round_has_the_same_end(config: HeadSettings) -> None:
    whole = [(each.head, state) for each, state in rounds(config)]
    end = whole[-1][1].to_bytes("")
    for place, (_, state) in enumerate(whole):
        _, again = State.from_bytes(state.to_bytes("a run"))
        rest = [later for _, later in rounds(config, again)]
        assert len(rest) == len(whole) - 1 - place
        assert (rest[-1] if rest else again).to_bytes("") == end
    # Broken at each round in turn, as by one kill after another.
    state = None
    for _ in whole:
        ((_, state),) = itertools.islice(rounds(config, state), 1)
        state = State.from_bytes(state.to_bytes(""))[1]
    assert state is not None
    assert state.to_bytes("") == end


def test_a_round_does_not_change_the_states_before_it() -> None:
    kept = [(state, state.to_bytes("")) for _, state in rounds(HeadSettings(100, 0.1))]
    assert all(state.to_bytes("") == content for state, content in kept)
    start = kept[3]
    list(rounds(HeadSettings(100, 0.1), start[0]))
    assert start[0].to_bytes("") == start[1]


def state(width: int) -> State:
    random = np.random.default_rng(0)
    heads = [
        Head(random.normal(size=(width, 5)).astype(np.float32), np.ones(5, np.float32))
        for _ in range(2)
    ]
    return State(7, heads[0], heads[1], 0.1, 2)


def test_a_state_comes_back_from_bytes_as_it_was() -> None:
    key, found = State.from_bytes(state(1280).to_bytes("żółw ☀"))
    assert (key, found.step, found.best_cross_entropy, found.rounds_since) == ("żółw ☀", 7, 0.1, 2)
    for mine, theirs in ((found.head, state(1280).head), (found.best, state(1280).best)):
        assert mine.weights.dtype == mine.bias.dtype == np.float32
        np.testing.assert_array_equal(mine.weights, theirs.weights)
        np.testing.assert_array_equal(mine.bias, theirs.bias)


def test_a_flipped_bit_is_refused_or_of_no_weight() -> None:
    content = state(1280).to_bytes("mine")
    weights = content.index(b"\x93NUMPY", content.index(b"weights.npy"))
    for place in (*range(weights, weights + 128), *range(0, len(content), 997)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            try:
                key, found = State.from_bytes(bytes(flipped))
            except ValueError:
                continue
            assert found.to_bytes(key) == content, (place, bit)
