"""Ray's actors do what threads do, also when they are killed."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
import pytest

from deploy.errors import BadData, WrongUse
from retrain import ray_pool
from retrain.backbones import Backbone
from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import Bottlenecks, extract
from retrain.data.photo_folder import scan
from retrain.progress import Progress
from retrain.settings.cache import UrlPlace
from tests.helpers import ray_tasks
from tests.helpers.photos import LABELS, draw
from tests.helpers.stores import BUCKET, Rows, rows_of, s3_server

ray = pytest.importorskip("ray")
services = import_module("ray._private.services")
THREADS = EngineChoice("tflite", Path("no probe"))
ACTORS = EngineChoice("tflite", Path("no probe"), "ray")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    """Start Ray with two workers, and an S3 server that they know; return Ray's address."""
    with s3_server():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray_pool, "cores_here", lambda: 2)
            patch.setattr(services, "get_node", patiently(services.get_node))
            ray_pool.connect(None)
        yield ray.get_runtime_context().gcs_address
        started = psutil.Process().children(recursive=True)
        ray.shutdown()
        _, alive = psutil.wait_procs([each for each in started if is_of_ray(each)], 30)
        assert not alive


def patiently(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call` with patience: on a busy machine Ray does not start in its 30 s."""

    def call_again(*arguments: object) -> object:
        for _ in range(180):
            with suppress(RuntimeError):
                return call(*arguments)
            time.sleep(1)
        return call(*arguments)

    return call_again


def is_of_ray(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any("ray" in Path(word).parts or "ray::" in word for word in process.cmdline())
    return False


def actors() -> list[psutil.Process]:
    """Return the processes of Ray's actors that a process of this test session started."""
    processes = psutil.Process().children(recursive=True)
    return [process for process in processes if process.name().startswith("ray::_Actor")]


@pytest.fixture
def one_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs have one actor: to start one takes a second."""
    monkeypatch.setattr(ray_pool, "cores", lambda: 1)


@pytest.fixture
def moments() -> Random:
    """Return what draws the moments of kills; the seed is shown when a test fails."""
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    return Random(seed)  # noqa: S311 (not a secret)


def test_each_task_has_one_result_and_both_actors_work() -> None:
    results = list(ray_pool.run(range(40), ray_tasks.make_pid, ray_tasks.echo))
    assert sorted(task for _, task in results) == list(range(40))
    assert len({pid for pid, _ in results}) == 2


@pytest.mark.usefixtures("one_actor")
def test_tasks_are_read_two_an_actor_ahead() -> None:
    started: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            started.append(len(started))
            yield started[-1]

    results = ray_pool.run(endless(), ray_tasks.make_pid, ray_tasks.echo)
    for number in range(1, 5):
        next(results)
        assert len(started) <= number + 2
    results.close()
    assert len(started) <= 6


@pytest.mark.usefixtures("one_actor")
def test_an_error_is_the_one_that_was_raised() -> None:
    with pytest.raises(BadData, match=r"^cannot write /full/shard.parquet: No space left"):
        list(ray_pool.run(range(8), ray_tasks.make_pid, ray_tasks.refuse))
    with pytest.raises(ValueError, match="no runtime"):
        list(ray_pool.run(range(8), ray_tasks.fail_to_make, ray_tasks.echo))


def test_ray_is_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("started again"))
    ray_pool.connect(None)


@pytest.mark.usefixtures("one_actor")
def test_a_task_whose_actor_is_killed_is_tried_again(tmp_path: Path) -> None:
    tasks = [(number, tmp_path / "mark") for number in range(8)]
    results = list(ray_pool.run(tasks, ray_tasks.make_pid, ray_tasks.die_once))
    assert (tmp_path / "mark").exists()
    assert {number for _, number in results} == {*range(8)}


@pytest.mark.usefixtures("one_actor")
def test_a_task_that_kills_each_actor_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_pool, "_MAX_RETRIES", 1)
    with pytest.raises(BadData, match="Ray") as caught:
        list(ray_pool.run([1], ray_tasks.make_pid, ray_tasks.die))
    assert "\n" not in str(caught.value)


def test_a_cluster_without_a_free_cpu_is_reported_and_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_pool, "_MAX_START_S", 0.5)
    block = ray.remote(num_cpus=1, max_restarts=0)(ray_tasks.Blocker)
    blockers = [block.remote() for _ in range(2)]
    ray.get([blocker.begin.remote() for blocker in blockers])
    warnings: list[str] = []

    def warn(text: str) -> None:
        warnings.append(text)
        for blocker in blockers:
            ray.kill(blocker)

    results = ray_pool.run(range(4), ray_tasks.make_pid, ray_tasks.echo, warn=warn)
    assert sorted(task for _, task in results) == list(range(4))
    (warning,) = warnings
    assert "0 of its 2 CPUs are free" in warning


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WrongUse, match=r"`executor` ray .*pip install 'retrain-tflite\[ray\]'"):
        next(ray_pool.run([1], ray_tasks.make_pid, ray_tasks.echo))


def test_an_address_without_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(BadData, match=f"Ray at {address} does not answer .*`ray_address`"):
        next(ray_pool.run([1], ray_tasks.make_pid, ray_tasks.echo, address))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 160 photos, of which one is damaged. Not to be changed."""
    root = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(0)
    for label in LABELS[:2]:
        (root / label).mkdir()
        for number in range(80):
            draw(label, random).save(root / label / f"{number}.png")
    path = root / LABELS[0] / "7.png"
    path.write_bytes(path.read_bytes()[:-100])
    return root


def run(root: Path, backbone: Backbone, place: Path | UrlPlace, how: EngineChoice) -> Bottlenecks:
    return extract(scan(root).photos, backbone, how, place, Progress(verbosity="ERROR"))


@pytest.fixture(scope="module")
def expected(
    root: Path, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bottlenecks, Rows]:
    """Return what threads extract, and the rows that they write."""
    place = tmp_path_factory.mktemp("threads")
    result = run(root, backbone, place, THREADS)
    rows = rows_of(place)
    assert (len(rows), len(result.photos), len(result.bad)) == (160, 159, 1)
    return result, rows


def await_moment(place: Path, moments: Random, is_over: Callable[[], object]) -> None:
    """Return after some of the ten shards are written, and a moment more, or if all is over."""
    count = moments.randint(1, 5)
    while len(list(place.glob("*/shard-*"))) < count and not is_over():
        time.sleep(0.005)
    time.sleep(moments.uniform(0, 0.05))


def is_same(result: Bottlenecks, expected: Bottlenecks) -> bool:
    values = [each.store.take(each.rows[:, 0]).tobytes() for each in (result, expected)]
    return (result.photos, result.bad) == (expected.photos, expected.bad) and len({*values}) == 1


def test_rays_rows_are_the_same_at_a_url(
    root: Path, backbone: Backbone, tmp_path: Path, expected: tuple[Bottlenecks, Rows]
) -> None:
    place = UrlPlace(f"s3://{BUCKET}/ray", tmp_path)
    result = run(root, backbone, place, ACTORS)
    assert result.analysed == 160
    assert is_same(result, expected[0])
    assert rows_of(tmp_path) == expected[1]
    elsewhere = UrlPlace(place.url, tmp_path / "elsewhere")
    again = run(root, backbone, elsewhere, THREADS)
    assert again.analysed == 0
    assert is_same(again, expected[0])


def test_rays_rows_are_those_of_threads_though_a_worker_is_killed(
    root: Path,
    backbone: Backbone,
    tmp_path: Path,
    expected: tuple[Bottlenecks, Rows],
    moments: Random,
) -> None:
    killed: list[int] = []
    is_over = threading.Event()

    def kill() -> None:
        await_moment(tmp_path, moments, is_over.is_set)
        victim = moments.choice(actors())
        killed.append(victim.pid)
        victim.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        result = run(root, backbone, tmp_path, ACTORS)
    finally:
        is_over.set()
        thread.join()
    assert killed
    assert is_same(result, expected[0])
    assert rows_of(tmp_path) == expected[1]
    assert run(root, backbone, tmp_path, ACTORS).analysed == 0


def test_a_killed_driver_continues_where_it_was(
    root: Path,
    backbone: Backbone,
    cache_dir: Path,
    tmp_path: Path,
    cluster: str,
    expected: tuple[Bottlenecks, Rows],
    moments: Random,
) -> None:
    """Its actors end, too; the second run is in this process."""
    where = ("--cache-dir", cache_dir, "--bottleneck-dir", tmp_path, "--ray-address", cluster)
    words = (sys.executable, "-m", "retrain", "bottlenecks", root, "--executor", "ray", *where)
    with psutil.Popen([str(word) for word in words], stderr=subprocess.PIPE) as driver:
        await_moment(tmp_path, moments, lambda: driver.poll() is not None)
        driver.kill()
        assert rows_of(tmp_path), driver.stderr.read()
    while actors():
        time.sleep(0.05)
    rows = rows_of(tmp_path)
    assert rows.items() < expected[1].items()
    result = run(root, backbone, tmp_path, ACTORS)
    assert result.analysed == 160 - len(rows)
    assert is_same(result, expected[0])
    assert rows_of(tmp_path) == expected[1]
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.usefixtures("one_actor")
def test_a_cache_that_the_driver_cannot_see_is_refused_with_the_remedy(
    root: Path, backbone: Backbone, tmp_path: Path
) -> None:
    """The memory of a worker is not that of this process."""
    with pytest.raises(BadData, match=r"memory://c.*shard-.*`bottleneck_dir` must be a URL"):
        run(root, backbone, UrlPlace("memory://c", tmp_path), ACTORS)


@pytest.mark.usefixtures("one_actor")
def test_a_disk_that_cannot_be_written_is_named(
    root: Path, backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(BadData, match=f"^cannot make the folder {tmp_path}"):
        run(root, backbone, tmp_path / "a file" / "there", ACTORS)
