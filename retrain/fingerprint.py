"""Name a cached value by everything that made it."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any


def fingerprint(values: Any, content: Iterable[bytes] = ()) -> str:
    """Return the SHA-256, in hexadecimal, of `values` as canonical JSON, followed by `content`.

    `values` are the settings, versions and digests that made the cached value, as JSON takes them.
    Canonical JSON sorts the keys and writes ASCII. `content` are bytes too many to be values, such
    as a line for each photo. The keys of existing caches depend on these bytes: never change them.
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for block in content:
        digest.update(block)
    return digest.hexdigest()
