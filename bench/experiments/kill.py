"""Kill `retrain bottlenecks` at random moments: `python -m bench.experiments.kill DIR`.

An undisturbed run on some photos of DIR fills a cache. Then a run on an empty cache is killed with
SIGKILL at a random moment of the extraction, started again, killed again, and so on up to four
times; the last run goes to the end. The extraction is from the moment when the cache is open, or
Ray has a worker, to the last shard: each moment of what is left of it is equally likely. That is
repeated, each time on an empty cache, until there were --kills kills. For each of these caches it
is checked that its content is that of the undisturbed run, that no photo is in two shards, that
nothing in a shard was analysed again, and that `retrain cache gc` leaves nothing unfinished. A
photo that was analysed and is in no shard was in hand when its run was killed: each worker has one
shard in hand.

Threads are killed with their process. With --executor ray, --victim says who is killed: one of
Ray's workers, which the run must survive, or the driver with all of Ray's processes. With
--one-cluster Ray is started once, and is not killed with a driver. Other options go to every
`retrain bottlenecks`: --architecture NAME, --executor ray.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import click
import psutil
import pyarrow.parquet as pq

from bench.experiments.shared import find_photos, json_option, retrain, run, save
from deploy.errors import BadData
from deploy.system.terminal import say
from retrain import ray_pool
from retrain.bottlenecks.cache import ABOUT, SHARDS
from retrain.settings.cache import BOTTLENECKS

Victim = Literal["driver", "worker"]
MAX_KILLS_A_CACHE = 4
_BACKBONES = "backbones"
_WORKER = re.compile(r"ray::(?!IDLE|\w+Agent\b)")
"""The beginning of the command line of a worker of Ray's that runs an actor or a task."""
_POLL_S = 0.01
_PATIENCE_S = 600.0
_GRACE_S = 30.0
"""Seconds in which processes of Ray's end after their driver was killed."""


@dataclass
class Figures:
    """What the kills did, over all caches.

    `seconds` are those of the undisturbed extraction. For each kill, `after_s` is when it came
    after the extraction had begun, and `saved_at_kill` how many photos were in shards then.
    `analysed_by_last_runs` has the photos that were left for the run to the end of each cache.
    `most_rows_of_a_shard` times the workers bounds the photos that a kill loses.
    """

    photos: int
    content_sha256: str
    seconds: float
    kills: int = 0
    caches: int = 0
    after_s: list[float] = field(default_factory=list)
    saved_at_kill: list[int] = field(default_factory=list)
    most_rows_of_a_shard: int = 0
    analysed_by_last_runs: list[int] = field(default_factory=list)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True))
@click.option("--kills", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--photos", default=200, show_default=True, type=click.IntRange(min=2))
@click.option("--seed", type=int, help="Seed of the random moments.  [default: another each time]")
@click.option("--victim", default="driver", show_default=True, type=click.Choice(get_args(Victim)))
@click.option("--one-cluster", is_flag=True, help="Start Ray once, and not with each run.")
@json_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(
    folder: Path,
    kills: int,
    photos: int,
    seed: int | None,
    victim: Victim,
    one_cluster: bool,
    output: Path | None,
    options: tuple[str, ...],
) -> None:
    """Kill `retrain bottlenecks` on photos of DIR, and check what the cache holds in the end."""
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    say(f"seed {seed}", err=True)
    about = {"seed": seed, "victim": victim, "options": list(options), "one_cluster": one_cluster}

    def keep(figures: Figures) -> None:
        if output:
            save(output, {**about, **asdict(figures)})

    with TemporaryDirectory(prefix="kill") as temporary, ExitStack() as stack:
        if one_cluster:
            options = (*options, "--ray-address", stack.enter_context(_cluster()))
        few = copy_evenly(folder, Path(temporary) / "photos", photos)
        figures = kill_and_check(few, Path(temporary), kills, seed, victim, options, report=keep)
    say(json.dumps({**about, **asdict(figures)}))
    say(
        f"{figures.kills} kills of a {victim}, {figures.caches} caches of {figures.photos} photos: "
        f"each ended with the content of an undisturbed run, {figures.content_sha256}"
    )


@contextmanager
def _cluster() -> Iterator[str]:
    """Start Ray on this machine, and yield its address."""
    ray_pool.connect(None)
    ray = import_module("ray")
    try:
        yield str(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def copy_evenly(folder: Path, target: Path, count: int) -> Path:
    """Copy `count` photos of `folder`, at equal distances, to `target`; return it."""
    paths = find_photos(folder)
    step = max(1, len(paths) // count)
    for path in paths[::step][:count]:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return target


def kill_and_check(
    photos: Path,
    place: Path,
    kills: int,
    seed: int,
    victim: Victim = "driver",
    options: Sequence[str] = (),
    prepared: Path | None = None,
    report: Callable[[Figures], None] = lambda _: None,
) -> Figures:
    """Kill runs on `photos` with caches in `place`; return what was counted.

    `prepared` is a cache with the prepared backbone, not to be changed; without it one is made.
    `report` is called after each cache.
    Raises BadData for the first thing that is wrong.
    """
    moments = random.Random(seed)  # noqa: S311 (not a secret)
    if prepared is None:
        prepared = place / "prepared"
        _finish(photos, prepared, options)
    cache = _copy(prepared, place / "undisturbed")
    seconds = _time_extraction(_Run(photos, cache, options, place / "log"))
    rows, _ = _saved(cache)
    figures = Figures(rows.total(), _content(cache), seconds)
    while figures.kills < kills:
        cache = _copy(prepared, place / "killed")
        allowed = min(kills - figures.kills, moments.randint(1, MAX_KILLS_A_CACHE))
        saved: Counter[bytes] = Counter()
        for _ in range(allowed):
            left = 1 - saved.total() / figures.photos
            after_s = moments.uniform(0, figures.seconds * left)
            run = _Run(photos, cache, options, place / "log")
            saved_at_kill = _kill_a_run(run, after_s, victim, moments)
            rows, most = _saved(cache)
            _require(not saved - rows, "a shard vanished")
            saved = rows
            figures.most_rows_of_a_shard = max(most, figures.most_rows_of_a_shard)
            if saved_at_kill is not None:
                figures.kills += 1
                figures.after_s.append(round(after_s, 3))
                figures.saved_at_kill.append(saved_at_kill)
            if saved_at_kill is None or saved.total() == figures.photos:
                break
        _check(photos, cache, figures, saved, options)
        figures.caches += 1
        report(figures)
        say(f"{figures.kills} kills, {figures.caches} caches", err=True)
        shutil.rmtree(cache)
    return figures


def _check(
    photos: Path, cache: Path, figures: Figures, saved: Counter[bytes], options: Sequence[str]
) -> None:
    """Run to the end; raise BadData unless all is as if no run had been killed."""
    analysed = _finish(photos, cache, options)
    figures.analysed_by_last_runs.append(analysed)
    expected = figures.photos - len(saved)
    _require(analysed == expected, f"the last run analysed {analysed} photos, not {expected}")
    content = _content(cache)
    _require(content == figures.content_sha256, f"the content is {content}")
    rows, _ = _saved(cache)
    twice = rows.total() - len(rows)
    _require(twice == 0, f"{twice} photos are in two shards")
    retrain("cache", "gc", "--cache-dir", str(cache))
    for path in cache.rglob("*"):
        is_leftover = path.suffix in (".part", ".damaged") or path.name.startswith("tmp")
        _require(not is_leftover, f"{path} is left")


def _require(is_so: bool, problem: str) -> None:
    if not is_so:
        raise BadData(f"{problem}: the cache does not survive a kill: repeat it with this `seed`")


def _copy(prepared: Path, cache: Path) -> Path:
    """Return a new cache that has only the prepared backbones."""
    shutil.copytree(prepared / _BACKBONES, cache / _BACKBONES)
    return cache


def _command(photos: Path, cache: Path, options: Sequence[str]) -> list[str]:
    return ["bottlenecks", str(photos), "--cache-dir", str(cache), *options]


def _finish(photos: Path, cache: Path, options: Sequence[str]) -> int:
    """Run to the end, and return the number of photos that were analysed."""
    analysed: int = retrain(*_command(photos, cache, options))["analysed"]
    return analysed


def _content(cache: Path) -> str:
    """Return the SHA-256 of the content of the one cache of bottlenecks, which is not damaged."""
    contents = retrain("cache", "verify", "--cache-dir", str(cache))["contents"]
    folder = cache / BOTTLENECKS
    (content,) = (entry for entry in contents if Path(entry["folder"]).parent == folder)
    return str(content["content_sha256"])


def _shards(cache: Path) -> list[Path]:
    return [*cache.glob(f"{BOTTLENECKS}/*/{SHARDS}")]


def _saved(cache: Path) -> tuple[Counter[bytes], int]:
    """Return how often each digest is in a shard, and the most rows of a shard."""
    shards = [
        pq.ParquetFile(path).read(columns=["digest"])["digest"].to_pylist()
        for path in _shards(cache)
    ]
    return Counter(digest for shard in shards for digest in shard), max(map(len, shards), default=0)


@dataclass(frozen=True)
class _Run:
    """A run of `retrain bottlenecks` on `photos`, whose messages go to `log`."""

    photos: Path
    cache: Path
    options: Sequence[str]
    log: Path

    def start(self) -> psutil.Popen:
        """Return its process, the first of a session of its own."""
        command = _command(self.photos, self.cache, self.options)
        with self.log.open("wb") as stream:
            return psutil.Popen(
                [sys.executable, "-m", "retrain", *command],
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=stream,
            )

    def await_extraction(self, process: psutil.Popen) -> None:
        """Return when the extraction has begun, or the run has ended."""
        while process.poll() is None:
            if "ray" in self.options:
                is_begun = bool(_workers())
            else:
                is_begun = any(self.cache.glob(f"{BOTTLENECKS}/*/{ABOUT}"))
            if is_begun:
                break
            time.sleep(_POLL_S)

    def require_success(self, process: psutil.Popen, timeout_s: float) -> None:
        """Wait for the end of the run; raise BadData if it fails, TimeoutExpired if it lasts."""
        _require(process.wait(timeout_s) == 0, self.log.read_text("utf-8").strip())


def _time_extraction(run: _Run) -> float:
    """Run to the end; return the seconds from the beginning of the extraction to its last shard."""
    process = run.start()
    run.await_extraction(process)
    begun_at = time.time()
    run.require_success(process, _PATIENCE_S)
    return max(path.stat().st_mtime for path in _shards(run.cache)) - begun_at


def _kill_a_run(run: _Run, after_s: float, victim: Victim, moments: random.Random) -> int | None:
    """Start a run, and kill it so many seconds after its extraction began.

    Return how many photos were in shards then, None if the run had ended. Raises BadData if the run
    fails by itself, or because of a worker that was killed.
    """
    process = run.start()
    family: list[psutil.Process] = []
    try:
        run.await_extraction(process)
        with suppress(psutil.TimeoutExpired):
            run.require_success(process, after_s)
            return None
        if victim == "worker":
            is_killed = _kill_worker(process, moments)
            rows, _ = _saved(run.cache)
            run.require_success(process, _PATIENCE_S)
            return rows.total() if is_killed else None
        family = [*process.children(recursive=True), *_workers()]
        os.killpg(process.pid, signal.SIGKILL)
        rows, _ = _saved(run.cache)
        return rows.total()
    finally:
        with suppress(psutil.Error):
            family = family or process.children(recursive=True)
        with suppress(psutil.Error):
            process.kill()
        process.wait()
        _, alive = psutil.wait_procs(family, _GRACE_S)  # Ray's end by themselves
        for survivor in alive:
            with suppress(psutil.Error):
                survivor.kill()


def _kill_worker(process: psutil.Popen, moments: random.Random) -> bool:
    """Kill a worker; return whether there was one before the run ended."""
    while process.poll() is None:
        with suppress(psutil.Error):
            if workers := _workers():
                moments.choice(workers).kill()
                return True
        time.sleep(_POLL_S)
    return False


def _workers() -> list[psutil.Process]:
    """Return the workers of Ray's, below this process, that run an actor or a task."""
    workers = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if _WORKER.match("".join(child.cmdline()[:1])):
                workers.append(child)
    return workers


if __name__ == "__main__":
    run(main)
