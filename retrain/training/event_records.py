"""Write records as TensorFlow's TFRecord files hold them.

TensorBoard's own writer would load its file systems, which takes as long as a thousand steps of
training. The format: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import struct
from typing import BinaryIO

_POLYNOMIAL = 0x82F63B78
"""That of CRC-32C (Castagnoli, RFC 3720), its lowest bit first."""


def write_record(stream: BinaryIO, data: bytes) -> None:
    """Write `data` as one record: its length, the checksum of that, itself, and its checksum."""
    length = struct.pack("<Q", len(data))
    stream.write(length + _checksum(length) + data + _checksum(data))


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    """Return the masked checksum of a TFRecord: rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_remainder(byte) for byte in range(256)]
"""The CRC-32C of each byte, without the first and last inversion."""
