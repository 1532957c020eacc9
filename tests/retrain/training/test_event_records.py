"""Read back the records that we write, with TensorFlow's reader."""

import os
from pathlib import Path

from retrain.tf_graph import tensorflow
from retrain.training.event_records import crc32c, write_record


def test_checksums_are_those_of_the_standard() -> None:
    # RFC 3720, B.4
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def test_tensorflow_reads_the_records(tmp_path: Path) -> None:
    records = [b"", b"one", os.urandom(5000)]
    path = tmp_path / "records"
    with path.open("wb") as stream:
        for record in records:
            write_record(stream, record)
    tf = tensorflow()
    assert list(tf.compat.v1.io.tf_record_iterator(str(path))) == records
