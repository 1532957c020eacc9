"""Return memory to the system."""

import ctypes
from contextlib import suppress


def release_free_memory() -> None:
    """Return the memory that this process has freed, where its C library is glibc.

    glibc keeps it for later: of fine-tuning, hundreds of megabytes.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
