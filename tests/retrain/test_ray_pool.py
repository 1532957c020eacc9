"""Ray's actors do what threads do, also when they are killed."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

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
THREADS = EngineChoice("tflite", Path("no probe"))
ACTORS = EngineChoice("tflite", Path("no probe"), "ray")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    """Start Ray with two workers, and an S3 server that they know; return Ray's address."""
    with s3_server():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray_pool, "cores_here", lambda: 2)
            assert ray_pool.connect(None)
        yield ray.get_runtime_context().gcs_address
        started = psutil.Process().children(recursive=True)
        ray.shutdown()
        _, alive = psutil.wait_procs([each for each in started if is_of_ray(each)], 30)
        assert not alive


def is_of_ray(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any("ray" in Path(word).parts or "ray::" in word for word in process.cmdline())
    return False


def actors() -> list[psutil.Process]:
    """Return the processes of Ray's actors that a process of this test session started."""
    processes = psutil.Process().children(recursive=True)
    return [process for process in processes if process.name().startswith("ray::_Actor")]


def test_each_task_has_one_result_and_both_actors_work() -> None:
    results = list(ray_pool.run(range(40), ray_tasks.make_pid, ray_tasks.echo))
    assert sorted(task for _, task in results) == list(range(40))
    assert len({pid for pid, _ in results}) == 2
    assert list(ray_pool.run([], ray_tasks.make_pid, ray_tasks.echo)) == []


def test_tasks_are_read_two_an_actor_ahead() -> None:
    started: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            started.append(len(started))
            yield started[-1]

    results = ray_pool.run(endless(), ray_tasks.make_pid, ray_tasks.echo)
    for number in range(1, 5):
        next(results)
        assert len(started) <= number + 4
    results.close()
    assert len(started) <= 9


def test_an_error_is_the_one_that_was_raised() -> None:
    with pytest.raises(BadData, match=r"^cannot write /full/shard.parquet: No space left"):
        list(ray_pool.run(range(8), ray_tasks.make_pid, ray_tasks.refuse))
    with pytest.raises(ValueError, match="no runtime"):
        list(ray_pool.run(range(8), ray_tasks.fail_to_make, ray_tasks.echo))


@pytest.mark.parametrize("is_ours", [True, False])
def test_ray_ends_with_the_run_that_started_it(
    monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ray_pool, "connect", lambda _address: is_ours)
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    results = ray_pool.run([], ray_tasks.make_pid, ray_tasks.echo)
    results.close()
    assert calls == []
    assert list(ray_pool.run([], ray_tasks.make_pid, ray_tasks.echo)) == []
    assert calls == ["shutdown"] * is_ours


def test_a_task_whose_actor_is_killed_is_tried_again(tmp_path: Path) -> None:
    tasks = [(number, tmp_path / "mark") for number in range(8)]
    results = list(ray_pool.run(tasks, ray_tasks.make_pid, ray_tasks.die_once))
    assert (tmp_path / "mark").exists()
    assert {number for _, number in results} == {*range(8)}


def test_a_task_that_kills_each_actor_is_an_error_of_one_line() -> None:
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


def is_same(result: Bottlenecks, expected: Bottlenecks) -> bool:
    values = [each.store.take(each.rows[:, 0]).tobytes() for each in (result, expected)]
    return (result.photos, result.bad) == (expected.photos, expected.bad) and len({*values}) == 1


def test_rays_rows_are_those_of_threads(
    root: Path, backbone: Backbone, tmp_path: Path, expected: tuple[Bottlenecks, Rows]
) -> None:
    result = run(root, backbone, tmp_path, ACTORS)
    assert result.analysed == 160
    assert is_same(result, expected[0])
    assert rows_of(tmp_path) == expected[1]
    assert run(root, backbone, tmp_path, ACTORS).analysed == 0


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


def test_a_killed_worker_costs_its_shard(
    root: Path, backbone: Backbone, tmp_path: Path, expected: tuple[Bottlenecks, Rows]
) -> None:
    killed: list[int] = []

    def kill() -> None:
        while not list(tmp_path.glob("*/shard-*")):
            time.sleep(0.005)
        victim = actors()[0]
        killed.append(victim.pid)
        victim.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    result = run(root, backbone, tmp_path, ACTORS)
    thread.join()
    assert killed
    assert is_same(result, expected[0])
    assert rows_of(tmp_path) == expected[1]


def test_a_killed_driver_continues_where_it_was(
    root: Path,
    backbone: Backbone,
    cache_dir: Path,
    tmp_path: Path,
    cluster: str,
    expected: tuple[Bottlenecks, Rows],
) -> None:
    """Its actors end, too; the second run is in this process."""
    where = ("--cache-dir", cache_dir, "--bottleneck-dir", tmp_path, "--ray-address", cluster)
    words = (sys.executable, "-m", "retrain", "bottlenecks", root, "--executor", "ray", *where)
    with psutil.Popen([str(word) for word in words], stderr=subprocess.PIPE) as driver:
        while not (there := list(tmp_path.glob("*/shard-*"))) and driver.poll() is None:
            time.sleep(0.005)
        driver.kill()
        assert there, driver.stderr.read()
    while actors():
        time.sleep(0.05)
    rows = rows_of(tmp_path)
    assert rows.items() < expected[1].items()
    result = run(root, backbone, tmp_path, ACTORS)
    assert result.analysed == 160 - len(rows)
    assert is_same(result, expected[0])
    assert rows_of(tmp_path) == expected[1]
    assert not list(tmp_path.rglob(".*.part"))


def test_a_cache_that_the_driver_cannot_see_is_refused_with_the_remedy(
    root: Path, backbone: Backbone, tmp_path: Path
) -> None:
    """The memory of a worker is not that of this process."""
    with pytest.raises(BadData, match=r"memory://c.*shard-.*`bottleneck_dir` must be a URL"):
        run(root, backbone, UrlPlace("memory://c", tmp_path), ACTORS)


def test_a_disk_that_cannot_be_written_is_named(
    root: Path, cache_dir: Path, tmp_path: Path, cluster: str
) -> None:
    (tmp_path / "a file").touch()
    where = ("--cache-dir", cache_dir, "--bottleneck-dir", tmp_path / "a file" / "there")
    words = (sys.executable, "-m", "retrain", "bottlenecks", root, "--executor", "ray", *where)
    process = subprocess.run(
        [str(word) for word in (*words, "--ray-address", cluster)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 3
    assert process.stderr.splitlines()[-1].startswith(f"Error: cannot make the folder {tmp_path}")
    assert "Traceback" not in process.stderr
