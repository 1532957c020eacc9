"""`retrain sample`: a whole folder or none, whatever the network does."""

import errno
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

from retrain.cli import commands
from retrain.data import download, sample_datasets
from retrain.progress import Progress
from tests.helpers.archive_fixtures import named, tgz
from tests.helpers.sample_fixtures import Server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["sample", *map(str, arguments)])


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Return what makes a file at an address the flowers sample, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def replace_flowers(url: str, data: bytes) -> None:
        remote = download.Remote(url, len(data), hashlib.sha256(data).hexdigest())
        flowers = replace(
            sample_datasets.SAMPLES["flowers"], fill=partial(sample_datasets.download, remote)
        )
        monkeypatch.setitem(sample_datasets.SAMPLES, "flowers", flowers)

    return replace_flowers


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
    paths = (tmp_path / "cache" / "retrain" / "downloads").rglob("*")
    return [path.stat().st_size for path in paths if path.is_file()]


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
    process = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (process.returncode, process.stdout) == (0, "defective     715\nfunctional   1508\n")
    assert "CC BY-NC-SA 4.0" in process.stderr
    assert "https://github.com/zae-bayern/elpv-dataset" in process.stderr
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
    assert (result.exit_code, result.stdout, server.requests) == (2, "", [])
    assert f"{folder}: not empty" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_flowers_into_an_empty_folder_and_again_from_the_cache(
    folder: Path, server: Server
) -> None:
    folder.mkdir(parents=True)
    assert_flowers(run("flowers", folder), folder)
    other = folder.parent.parent / "other" / "photos"
    assert_flowers(run("flowers", other), other)
    assert server.requests == ["/flowers.tgz"]


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


@pytest.mark.parametrize("announces_size", [True, False])
def test_a_cut_download_leaves_nothing(
    folder: Path, server: Server, tmp_path: Path, announces_size: bool
) -> None:
    server.cut, server.announces_size = 30_000, announces_size
    assert_failed(run("flowers", folder), folder, 3, "/flowers.tgz", "run this again")
    assert downloads(tmp_path) == []
    server.cut = None
    assert_flowers(run("flowers", folder), folder)
    assert downloads(tmp_path) == [len(server.data)]


def test_interrupt_leaves_nothing(folder: Path, server: Server, tmp_path: Path) -> None:
    # A process of its own, as a user's is.
    (remote,) = sample_datasets.SAMPLES["flowers"].fill.args  # type: ignore[attr-defined]
    code = f"""
from dataclasses import replace
from functools import partial
from retrain.cli import commands
from retrain.data import sample_datasets
from retrain.data.download import Remote
fill = partial(sample_datasets.download, {remote!r})
flowers = replace(sample_datasets.SAMPLES["flowers"], fill=fill)
sample_datasets.SAMPLES["flowers"] = flowers
commands()
"""
    released = threading.Event()

    def interrupt() -> None:
        deadline = time.monotonic() + 10
        while not any(downloads(tmp_path)) and time.monotonic() < deadline:
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
    assert downloads(tmp_path) == []


def test_interrupt_while_filling_leaves_nothing(folder: Path) -> None:
    def fill(unfinished: Path, _: Progress) -> None:
        (unfinished / "roses").mkdir()
        (unfinished / "roses" / "1.jpg").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_datasets.put(sample_datasets.Sample("flowers", "", "", fill), folder, Progress())
    assert list(folder.parent.iterdir()) == []


def test_wrong_bytes_are_removed(folder: Path, server: Server, tmp_path: Path) -> None:
    right, server.data = server.data, server.data[:-1] + b"?"
    assert_failed(run("flowers", folder), folder, 3, "/flowers.tgz", "SHA-256", "run this again")
    assert downloads(tmp_path) == []
    server.data = right
    assert_flowers(run("flowers", folder), folder)


def test_a_damaged_file_of_the_cache_is_downloaded_again(
    folder: Path, server: Server, tmp_path: Path
) -> None:
    assert_flowers(run("flowers", folder), folder)
    (path,) = (tmp_path / "cache" / "retrain" / "downloads").iterdir()
    path.write_bytes(b"damaged")
    other = folder.parent.parent / "other" / "photos"
    assert_flowers(run("flowers", other), other)
    assert len(server.requests) == 2
    assert path.read_bytes() == server.data


@pytest.mark.parametrize("page", [b"<html>sign in</html>", b"?" * 200_000])
@pytest.mark.parametrize("announces_size", [True, False])
def test_file_of_another_size_is_refused(
    folder: Path, server: Server, tmp_path: Path, page: bytes, announces_size: bool
) -> None:
    server.data, server.announces_size = page, announces_size
    problem = "offers" if announces_size else "sends more" if len(page) > 100_000 else "SHA-256"
    assert_failed(run("flowers", folder), folder, 3, "/flowers.tgz", problem)
    assert downloads(tmp_path) == []


@pytest.mark.usefixtures("server")
def test_a_full_disk_names_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download._SizeCheck, "update", refuse)
    assert_failed(run("flowers", folder), folder, 3, "-flowers.tgz", "No space left on device")
    assert downloads(tmp_path) == []


def test_a_proxy_is_used(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (remote,) = sample_datasets.SAMPLES["flowers"].fill.args  # type: ignore[attr-defined]
    elsewhere = replace(remote, url="http://flowers.invalid/flowers.tgz")
    flowers = replace(
        sample_datasets.SAMPLES["flowers"], fill=partial(sample_datasets.download, elsewhere)
    )
    monkeypatch.setitem(sample_datasets.SAMPLES, "flowers", flowers)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    assert_flowers(run("flowers", folder), folder)
    assert server.requests == ["http://flowers.invalid/flowers.tgz"]


def test_progress_is_shown_in_megabytes(capsys: pytest.CaptureFixture[str]) -> None:
    remote = download.Remote("http://any/flowers.tgz", 3_000_000, "")
    with Progress("json").bar("Downloading", 3, "MB") as advance:
        check = download._SizeCheck(remote, advance)
        check.total = 3_000_000
        for _ in range(46):
            check.update(download._BLOCK_BYTES)
        check.reset()
        check.update(3_000_000)
        check.close()
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["done"], last["total"], last["unit"]) == (3, 3, "MB")


def test_missing_file_names_address_and_remedy(folder: Path, server: Server) -> None:
    server.status = 404
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
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.1)
    released, start = threading.Event(), time.perf_counter()
    server.cut, server.after = 0, lambda: (released.wait(30), None)[1]
    try:
        assert_failed(run("flowers", folder), folder, 3, "timed out", "run this again")
    finally:
        released.set()
    assert time.perf_counter() - start < 10


def test_the_folder_one_is_in_is_not_replaced(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    result = run("flowers", ".")
    assert result.exit_code == 2
    assert "it would be replaced while you are in it" in result.stderr
    assert (folder.is_dir(), server.requests) == (True, [])
