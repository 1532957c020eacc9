"""`retrain sample`: whole folders or none, whatever the network does."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from retrain.cli import commands
from retrain.data import download, sample_datasets
from tests.helpers.archive_fixtures import named, tgz
from tests.helpers.sample_fixtures import Server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["sample", *map(str, arguments)])


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Return what makes a file at an address the flowers sample, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def offered(url: str, data: bytes) -> None:
        remote = download.Remote(url, len(data), hashlib.sha256(data).hexdigest())
        flowers = replace(
            sample_datasets.SAMPLES["flowers"], fill=partial(sample_datasets.download, remote)
        )
        monkeypatch.setitem(sample_datasets.SAMPLES, "flowers", flowers)

    return offered


@pytest.fixture
def server(tmp_path: Path, offer: Callable[[str, bytes], None]) -> Iterator[Server]:
    """Serve a small archive of noise, about 100,000 bytes, as the flowers sample."""
    photos = ["roses/1.jpg", "roses/2.jpg", "tulips/1.jpg", "tulips/2.jpg", "tulips/3.jpg"]
    with Server() as server:
        server.data = tgz(
            tmp_path / "flowers.tgz",
            (named("flower_photos", tarfile.DIRTYPE), b""),
            (named("flower_photos/LICENSE.txt"), b"their authors"),
            *((named(f"flower_photos/{photo}"), os.urandom(20_000)) for photo in photos),
        )
        offer(f"http://127.0.0.1:{server.server_port}/flowers.tgz", server.data)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder to make, in a folder of its own so that leftovers show."""
    return tmp_path / "work" / "photos"


def downloads(tmp_path: Path) -> list[int]:
    """Return the sizes of what the cache holds, finished or not."""
    held = (tmp_path / "cache" / "retrain" / "downloads").glob("*")
    return [file.stat().st_size for file in held if file.suffix != ".lock"]


def assert_flowers(result: Result, folder: Path) -> None:
    assert (result.exit_code, result.stdout) == (0, "roses       2\ntulips      3\n")
    assert "CC BY 2.0" in result.stderr
    assert (folder / "LICENSE.txt").read_bytes() == b"their authors"
    assert {len(photo.read_bytes()) for photo in folder.glob("*/*.jpg")} == {20_000}
    assert os.listdir(folder.parent) == ["photos"]  # noqa: PTH208


def assert_failed(result: Result, folder: Path, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert [word for word in words if word not in result.stderr] == []
    assert list(folder.parent.glob("*")) == []


def test_solar_cells_are_copied_by_their_certain_labels(folder: Path) -> None:
    code = "import sys; sys.modules['numpy'] = None; from retrain.cli import commands; commands()"
    command = [sys.executable, "-c", code, "sample", "solar-cells", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "defective     715\nfunctional   1508\n")
    assert "CC BY-NC-SA 4.0" in done.stderr
    assert "https://github.com/zae-bayern/elpv-dataset" in done.stderr
    assert "CC BY-NC-SA 4.0" in (folder / "LICENSE.txt").read_text()
    images = resources.files("elpv_dataset") / "data" / "images"
    # The first and fourth lines of labels.csv: 1.0 and 0.0.
    for label, name in (("defective", "cell0001.png"), ("functional", "cell0004.png")):
        assert (folder / label / name).read_bytes() == (images / name).read_bytes()

    photo = folder / "defective" / "cell0001.png"
    before = photo.stat()
    (folder / "defective" / ".DS_Store").touch()
    again = run("solar-cells", folder, "--json")
    assert again.exit_code == 0
    assert "already there" in again.stderr
    shown = json.loads(again.stdout)
    assert (shown["schema"], shown["photos"]) == (1, {"defective": 715, "functional": 1508})
    after = photo.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    assert run("flowers", folder).exit_code == 2
    photo.unlink()
    partly = run("solar-cells", folder)
    assert (partly.exit_code, partly.stdout) == (2, "")
    assert "not the whole solar-cells sample" in partly.stderr


def test_missing_package_names_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    result = run("solar-cells", folder)
    assert_failed(result, folder, 2, "pip install 'retrain-tflite[samples]'")


def test_folder_of_something_else_is_left_alone(folder: Path, server: Server) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    result = run("flowers", folder)
    assert (result.exit_code, result.stdout, server.asked) == (2, "", [])
    assert f"{folder}: not empty" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_flowers_into_an_empty_folder_and_again_from_the_cache(
    folder: Path, server: Server
) -> None:
    folder.mkdir(parents=True)
    assert_flowers(run("flowers", folder), folder)
    other = folder.parent.parent / "other" / "photos"
    assert_flowers(run("flowers", other), other)
    assert server.asked == [None]


@pytest.mark.usefixtures("server")
def test_modes_are_the_users_own(folder: Path) -> None:
    old = os.umask(0o027)
    try:
        run("flowers", folder)
    finally:
        os.umask(old)
    modes = {path: path.stat().st_mode & 0o7777 for path in (folder, *folder.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o750}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o640}


def test_cut_connections_are_continued(folder: Path, server: Server) -> None:
    server.cut = 40_000
    assert_flowers(run("flowers", folder), folder)
    assert server.asked == [None, "bytes=40000-", "bytes=80000-"]


def test_next_run_goes_on_where_the_last_stopped(
    folder: Path, server: Server, tmp_path: Path
) -> None:
    server.cut, server.status = 30_000, lambda start: 503 if start else 200
    assert_failed(run("flowers", folder), folder, 3, "/flowers.tgz", "503", "try again")
    assert downloads(tmp_path) == [30_000]
    server.cut, server.status = None, lambda _: 206
    assert_flowers(run("flowers", folder), folder)
    assert server.asked[-1] == "bytes=30000-"


def test_interrupt_leaves_only_what_the_next_run_continues(
    folder: Path, server: Server, tmp_path: Path
) -> None:
    # A process of its own, as a user's is.
    (remote,) = sample_datasets.SAMPLES["flowers"].fill.args  # type: ignore[attr-defined]
    code = f"""
from dataclasses import replace
from functools import partial
from retrain import samples
from retrain.cli import commands
from retrain.data.download import Remote
fill = partial(sample_datasets.download, {remote!r})
samples.SAMPLES["flowers"] = replace(sample_datasets.SAMPLES["flowers"], fill=fill)
commands()
"""
    released = threading.Event()

    def interrupt() -> None:
        while downloads(tmp_path) == [0]:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        released.wait(10)

    server.cut, server.after = 80_000, interrupt
    command = [sys.executable, "-c", code, "sample", "flowers", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=30)
        finally:
            released.set()
    assert (process.returncode, out) == (130, b"")
    assert b"Error: interrupted" in err
    assert list(folder.parent.glob("*")) == []
    (kept,) = downloads(tmp_path)
    assert 0 < kept <= 80_000
    server.cut, server.after = None, lambda: None
    assert_flowers(run("flowers", folder), folder)
    assert server.asked[-1] == f"bytes={kept}-"


def test_interrupt_while_filling_leaves_nothing(folder: Path) -> None:
    def fill(part: Path) -> None:
        (part / "roses").mkdir()
        (part / "roses" / "1.jpg").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_datasets.put(sample_datasets.Sample("flowers", "", "", fill), folder)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("status", [200, 416])
def test_server_without_ranges_starts_over(folder: Path, server: Server, status: int) -> None:
    server.cut, server.status = 30_000, lambda start: 500 if start else 200
    assert run("flowers", folder).exit_code == 3
    server.cut, server.status = None, lambda start: status if start else 200
    assert_flowers(run("flowers", folder), folder)


def test_server_without_ranges_that_cuts_does_not_loop(
    folder: Path, server: Server, tmp_path: Path
) -> None:
    def sooner() -> None:
        server.cut = 10_000

    server.cut, server.status, server.after = 30_000, lambda _: 200, sooner
    result = run("flowers", folder)
    assert_failed(result, folder, 3, "/flowers.tgz", "10,000 of ", "run this again")
    assert server.asked == [None, "bytes=30000-"]
    assert downloads(tmp_path) == [10_000]


def test_wrong_bytes_are_removed(folder: Path, server: Server, tmp_path: Path) -> None:
    right, server.data = server.data, server.data[:-1] + b"?"
    assert_failed(run("flowers", folder), folder, 3, "/flowers.tgz", "SHA-256", "run this again")
    assert downloads(tmp_path) == []
    server.data = right
    assert_flowers(run("flowers", folder), folder)


@pytest.mark.parametrize("page", [b"<html>sign in</html>", b"?" * 200_000])
def test_file_of_another_size_never_touches_the_part(
    folder: Path, server: Server, tmp_path: Path, page: bytes
) -> None:
    server.cut, server.status = 30_000, lambda start: 500 if start else 200
    assert run("flowers", folder).exit_code == 3
    server.data, server.cut, server.status = page, None, lambda _: 200
    assert_failed(run("flowers", folder), folder, 3, "/flowers.tgz", f"offers {len(page)}")
    assert downloads(tmp_path) == [30_000]


def test_missing_file_names_address_and_remedy(folder: Path, server: Server) -> None:
    server.status = lambda _: 404
    assert_failed(run("flowers", folder), folder, 3, "/flowers.tgz", "404", "has moved")


def test_no_network_names_address_and_remedy(
    folder: Path, offer: Callable[[str, bytes], None]
) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/flowers.tgz"
        offer(url, b"x")
        assert_failed(run("flowers", folder), folder, 3, url, "network connection")


def test_silent_server_is_given_up(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", 0.1)
    released, began = threading.Event(), time.perf_counter()
    server.cut, server.after = 0, lambda: (released.wait(30), None)[1]
    try:
        assert_failed(run("flowers", folder), folder, 3, "0 of ", "run this again")
    finally:
        released.set()
    assert time.perf_counter() - began < 10


def test_two_downloads_never_mix(folder: Path, server: Server, tmp_path: Path) -> None:
    server.status = lambda _: 500
    run("flowers", folder)
    (lock,) = (tmp_path / "cache" / "retrain" / "downloads").glob("*.lock")
    server.status = lambda _: 200
    with FileLock(lock):
        assert_failed(run("flowers", folder), folder, 2, "another process")
    assert_flowers(run("flowers", folder), folder)


def test_the_folder_one_is_in_is_not_replaced(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    result = run("flowers", ".")
    assert result.exit_code == 2
    assert "it would be replaced while you are in it" in result.stderr
    assert (folder.is_dir(), server.asked) == (True, [])
