"""An S3 server on loopback, and the rows of a cache wherever it lies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

BUCKET = "photos"
Rows = dict[tuple[bytes, int], tuple[str, str | None, bytes]]
"""Status, error and bottleneck of each digest and view."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Serve S3 with an empty bucket, to which the environment leads; yield the server's URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        client.close()
        S3FileSystem.clear_instance_cache()  # one knows the server that it began with
        try:
            yield url
        finally:
            S3FileSystem.clear_instance_cache()
            server.stop()


def rows_of(folder: Path) -> Rows:
    """Return the rows of all shards below `folder`."""
    rows: Rows = {}
    for path in folder.rglob("shard-*.parquet"):
        with pq.ParquetFile(path) as shard:
            for row in shard.read().to_pylist():
                values = (
                    b"" if row["bottleneck"] is None else bytes(repr(row["bottleneck"]), "ascii")
                )
                rows[row["digest"], row["view"]] = row["status"], row["error"], values
    return rows
