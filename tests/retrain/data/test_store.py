"""What stores raise becomes an OSError with a reason; a missing package is named."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from deploy.errors import BadData
from deploy.image import TOO_LARGE
from retrain.bottlenecks.extract_shard import Decoder
from retrain.bottlenecks.plan_shards import Task
from retrain.data import store
from retrain.data.source import read_photos
from retrain.settings.training import Distortion
from tests.helpers.deploy_fixtures import SPEC, encoded
from tests.helpers.photo_sources import write_csv, write_everywhere


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """Return the URL of a server whose answers have the status that the path names."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:4]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of a server that says no size, and sends 20 MB; photos may have 1 MB."""
    for module in ("scan", "listed", "remote_path"):
        monkeypatch.setattr(f"retrain.data.{module}.MAX_PHOTO_BYTES", 1_000_000)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(encoded(Image.new("RGB", (8, 8 + len(self.path))), "PNG"))
            with suppress(OSError):
                for _ in range(200 * ("endless" in self.path)):
                    self.wfile.write(bytes(100_000))

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url


def test_a_photo_whose_size_is_not_said_is_read_within_the_limit(
    tmp_path: Path, endless: str
) -> None:
    rows: list[dict[str, object]] = [
        {"uri": f"{endless}/{name}.png", "label": label}
        for name, label in (("a", "cat"), ("the_b", "dog"), ("endless", "cat"))
    ]
    dataset = read_photos(write_csv(tmp_path / "list.csv", rows))
    assert [photo.path.name for photo in dataset.photos] == ["a.png", "the_b.png"]
    assert [(item.path.name, item.reason) for item in dataset.bad] == [("endless.png", TOO_LARGE)]


def test_a_photo_that_was_not_looked_at_is_read_within_the_limit_too(
    tmp_path: Path, endless: str
) -> None:
    """A list that has the digests is believed: no photo is read before it is analysed."""
    uris = {
        "cat": f"{endless}/endless.png",
        "dog": "large.png",
        "owl": f"file://{tmp_path}/x.tar#1.png?bytes=0-9000000",
    }
    for name in ("large.png", "x.tar"):
        (tmp_path / name).write_bytes(bytes(9_000_000))
    rows: list[dict[str, object]] = [
        {"uri": uri, "label": label, "digest": sha256(label.encode()).hexdigest()}
        for label, uri in uris.items()
    ]
    photos = read_photos(write_csv(tmp_path / "list.csv", rows)).photos
    decoder, lost = Decoder(SPEC, Distortion(), None), dict[bytes, str]()
    assert not list(decoder.views([Task(photo, (0,)) for photo in photos], lost))
    assert lost == {photo.digest: f"cannot be read ({TOO_LARGE})" for photo in photos}
    for photo in photos:
        with pytest.raises(BadData, match=TOO_LARGE):
            photo.read()


def test_the_start_of_a_file_is_read(web: str) -> None:
    with fsspec.open("memory://start/1.bin", "wb") as stream:
        stream.write(b"0123456789")
    assert store.read_start("memory://start/1.bin", 4) == b"0123"
    assert store.read_start("memory://start/1.bin", 40) == b"0123456789"
    assert store.read_start(f"{web}/200/1.bin", 40) == b""


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, FileNotFoundError, "No such file or directory"),
        (403, OSError, "HTTP 403 Forbidden"),
        (500, OSError, "HTTP 500 Internal Server Error"),
    ],
)
def test_an_http_status_is_a_reason(
    web: str, status: int, kind: type[OSError], reason: str
) -> None:
    url = f"{web}/{status}/1.jpg"
    for read in (store.read, partial(store.read_start, max_bytes=9)):
        with pytest.raises(kind) as error:
            read(url)
        assert (error.value.strerror, error.value.filename) == (reason, url)


def test_no_server_and_no_protocol_are_reasons() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        store.read("http://127.0.0.1:9/1.jpg")
    with pytest.raises(OSError, match="Protocol not known: nowhere"):
        store.look("nowhere://a/1.jpg")
    with pytest.raises(FileNotFoundError, match="No such file"):
        store.list_names("memory://nothing/here")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gcsfs", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadData, match=r"gs://b/1\.jpg: .*pip install gcsfs"):
        store.read("gs://b/1.jpg")


def test_fsspec_is_loaded_only_for_a_url() -> None:
    code = (
        "import sys; from pathlib import Path; import retrain.data.source, retrain.cli.options;"
        "retrain.data.source.open_source(Path(sys.argv[1])); assert 'fsspec' not in sys.modules"
    )
    program = [sys.executable, "-c", code, "retrain"]
    subprocess.run(program, check=True, timeout=60)


def test_a_list_and_a_tar_file_of_a_plain_web_server_are_read(root: Path, tmp_path: Path) -> None:
    write_everywhere(root, tmp_path / "sources", ["memory://web"])
    shutil.copytree(root, tmp_path / "sources" / "photos")

    class Quiet(SimpleHTTPRequestHandler):  # it knows no ranges of bytes
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path / "sources"))
    with serving(handler) as url:
        for name in ("below.csv", "tars/x-{00..02}.tar"):
            dataset = read_photos(f"{url}/{name}")
            assert dataset.sha256 == read_photos(root).sha256
            assert all(photo.read().startswith(b"\x89PNG") for photo in dataset.photos)
