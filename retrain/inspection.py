"""What is in a .tflite file, anyone's: read as text and numbers, never run."""

import hashlib
import io
import json
import zipfile
from collections import Counter
from typing import Any

from deploy import goldens, metadata
from deploy.errors import BadData
from retrain import model_metadata
from retrain.operators import Tensor, ends, operators


def inspect(content: bytes) -> dict[str, Any]:
    """Return all that the bytes of a .tflite file tell, as JSON takes it.

    `contract`, `goldens` and `digests` are None unless `retrain convert` made the file. Raises
    BadData for what is no .tflite file, and for one that is damaged where that can be seen.
    """
    files, end = _files(content)
    ours = metadata.unpack(content) if metadata.MARKS & set(files) else None
    flatbuffer = content[:end]
    counts = Counter((each.name, each.version) for each in operators(flatbuffer))
    inputs, outputs = ends(flatbuffer)
    told = model_metadata.extract(flatbuffer)
    missing = _associated(told) - set(files)
    if missing:
        raise BadData(f"damaged: {', '.join(sorted(missing))} should be in it: copy it again")
    return {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "model": {
            "bytes": end,
            "inputs": [_end(tensor) for tensor in inputs],
            "outputs": [_end(tensor) for tensor in outputs],
            "operators": [
                {"name": name, "version": version, "count": count}
                for (name, version), count in sorted(counts.items())
            ],
        },
        "metadata": told,
        "files": [{"name": name, "bytes": size} for name, size in files.items()],
        "contract": json.loads(ours.contract.to_json()) if ours else None,
        "goldens": _goldens(ours) if ours else None,
        "digests": "each is right" if ours else None,
    }


def _files(content: bytes) -> tuple[dict[str, int], int]:
    """Return the files behind the model, by name in bytes, and where the model ends."""
    stream = io.BytesIO(content)
    if not zipfile.is_zipfile(stream):
        return {}, len(content)
    try:
        with zipfile.ZipFile(stream) as archive:
            found = archive.infolist()
            damaged = archive.testzip()
    except Exception as error:  # zipfile and its decompressors raise many kinds on damaged bytes
        raise BadData("damaged: the files inside cannot be read: copy it again") from error
    if damaged:
        raise BadData(f"damaged ({damaged}): copy it again")
    sizes = {each.filename: each.file_size for each in found}
    return sizes, min((each.header_offset for each in found), default=len(content))


def _associated(values: Any) -> set[str]:
    """Return the names of all files that metadata speaks of, wherever it does."""
    if isinstance(values, list):
        return {name for each in values for name in _associated(each)}
    if not isinstance(values, dict):
        return set()
    found = {name for each in values.values() for name in _associated(each)}
    return found | {each.get("name", "") for each in values.get("associated_files", [])}


def _end(tensor: Tensor) -> dict[str, Any]:
    """Return what there is to know of an input or output; open dimensions are -1."""
    return {
        "name": tensor.name,
        "type": tensor.type,
        "shape": list(tensor.shape),
        "scale": list(tensor.scales),
        "zero_point": list(tensor.zero_points),
    }


def _goldens(file: metadata.ModelFile) -> dict[str, Any]:
    told = [
        {"photo": goldens.name(i), "label": each.label, "scores": list(each.scores)}
        for i, each in enumerate(file.goldens)
    ]
    return {"tolerance": file.tolerance, "photos": told}
