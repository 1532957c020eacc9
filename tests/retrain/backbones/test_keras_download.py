"""Download weights with Keras: incomplete or wrong files are never used, nor cached_files."""

import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import pytest

from deploy.errors import BadData
from retrain.backbones import keras_applications
from retrain.backbones.keras_applications import KerasNetwork


def weights(value: float) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["kernel"] = [value] * 1000
    return stream.getvalue()


WEIGHTS, OTHER = weights(1.0), weights(2.0)
CUT = WEIGHTS[: len(WEIGHTS) // 2]


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `bodies`; there must be one."""

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    """Sends what the server has next."""

    server: Server

    def do_GET(self) -> None:
        """Send the next body."""
        body = self.server.bodies.pop(0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Yield what stands for the address of Keras; its cache is a new folder."""
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setattr(
            keras_applications, "_ADDRESS", f"http://127.0.0.1:{serving.server_port}/"
        )
        yield serving
        assert serving.bodies == []
        serving.shutdown()


NETWORKS = {network.name: network for network in keras_applications.NETWORKS}
HASHED = replace(
    NETWORKS["nasnet_mobile"], md5=hashlib.md5(WEIGHTS, usedforsecurity=False).hexdigest()
)
BARE = NETWORKS["mobilenet_v2"]


def cached_files(folder: Path) -> list[bytes]:
    """Return the content of the files in the cache of Keras."""
    return [path.read_bytes() for path in (folder / "models").rglob("*") if path.is_file()]


@pytest.mark.parametrize("network", [HASHED, BARE], ids=["hashed", "bare"])
def test_good_weights_are_fetched_once(
    network: KerasNetwork, server: Server, tmp_path: Path
) -> None:
    server.bodies = [WEIGHTS]
    assert network.installed_weights() is None
    path = network.fetch_weights()
    assert cached_files(tmp_path) == [WEIGHTS]
    assert network.installed_weights() == network.fetch_weights() == path


@pytest.mark.parametrize(
    ("network", "bodies"),
    [(HASHED, [OTHER, CUT]), (BARE, [CUT, b"<html>"])],
    ids=["hashed", "bare"],
)
def test_wrong_weights_are_not_kept_and_fetched_again(
    network: KerasNetwork, bodies: list[bytes], server: Server, tmp_path: Path
) -> None:
    server.bodies = [*bodies, WEIGHTS]
    for _ in bodies:
        with pytest.raises(BadData, match=f"{network.name} cannot be downloaded .*as `weights`"):
            network.fetch_weights()
        assert cached_files(tmp_path) == []
    assert network.fetch_weights().read_bytes() == WEIGHTS


@pytest.mark.parametrize("damaged", [OTHER, CUT], ids=["another", "cut"])
def test_weights_that_are_wrong_in_the_cache_are_fetched_again(
    damaged: bytes, server: Server, tmp_path: Path
) -> None:
    server.bodies = [WEIGHTS, WEIGHTS, OTHER]
    HASHED.fetch_weights().write_bytes(damaged)
    assert HASHED.installed_weights() is None
    assert HASHED.fetch_weights().read_bytes() == WEIGHTS
    HASHED.fetch_weights().write_bytes(damaged)
    with pytest.raises(BadData):
        HASHED.fetch_weights()
    assert cached_files(tmp_path) == [damaged]  # perhaps the weights of another version of Keras


def test_damaged_weights_without_a_digest_are_named_with_the_remedy(server: Server) -> None:
    server.bodies = [WEIGHTS]
    path = BARE.fetch_weights()
    path.write_bytes(CUT)
    with pytest.raises(BadData, match=f"{path}: .*damaged.*: delete it.*{BARE.weights_source}"):
        BARE.fetch_weights()
    path.unlink()
    server.bodies = [WEIGHTS]
    assert BARE.fetch_weights() == path
