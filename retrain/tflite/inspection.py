"""What is in a .tflite file, anyone's: read as text and numbers, never run."""

import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from typing import Any

from deploy import goldens, model_file
from deploy.errors import BadData
from deploy.untrusted_files import damaged
from deploy.zip_members import Members
from retrain.tflite import metadata as model_metadata
from retrain.tflite.model import UNKNOWN, Operator, Tensor, ends, operators, outline

_OURS = re.compile(rb"Made by retrain |  model\n[0-9a-f]{64}  contract\.json\n")
"""In the metadata and in the SHA256SUMS of a file of ours, which is not compressed."""
_FILES = ("associated_files", "vocab_file", "sentencePiece_model")
"""The fields of metadata that list files."""


def inspect(content: bytes) -> dict[str, Any]:
    """Return all that the bytes of a .tflite file tell, as JSON takes it.

    `contract`, `goldens` and `digests` are None unless `retrain convert` made the file. `problems`
    says what cannot be read, or should be there. Raises BadData for what is no .tflite file, one
    whose flatbuffer cannot be read, and one of ours that is damaged anywhere.
    """
    files, end, problems = _files(content)
    made_here = bool(_OURS.search(content))
    if made_here and problems:
        raise BadData(f"{problems[0]}: copy it again")
    required = model_file.REQUIRED_MEMBERS
    marks = sorted(required & set(files))
    ours = model_file.unpack(content) if made_here and len(marks) == len(required) else None
    flatbuffer = content[:end]
    operations = operators(flatbuffer)
    inputs, outputs = ends(flatbuffer)
    about = outline(flatbuffer)
    told = None
    try:
        told = model_metadata.extract(flatbuffer)
    except BadData as error:
        problems.append(str(error))
    named = _associated(told)
    missing = ", ".join(sorted(named - {"", *files}))
    if made_here and (missing or not ours):
        raise BadData(f"damaged: {missing or 'its files'} should be in it: copy it again")
    if missing:
        problems.append(f"its metadata speaks of files that are not there: {missing}")
    if "" in named:
        problems.append("its metadata speaks of a file without a name")
    if marks and not ours:
        problems.append(f"{', '.join(marks)} in it, but not of this project: not read")
    problems += _unknown(operations)
    counts = Counter((each.name, each.version) for each in operations)
    return {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "model": {
            "bytes": end,
            "description": about.description or None,
            "subgraphs": about.subgraphs,
            "signatures": [each._asdict() for each in about.signatures],
            "inputs": [_end(tensor) for tensor in inputs],
            "outputs": [_end(tensor) for tensor in outputs],
            "operators": [
                {"name": name, "version": version, "count": count}
                for (name, version), count in sorted(counts.items())
            ],
            "metadata": [{"name": name, "bytes": size} for name, size in about.entries],
        },
        "metadata": told,
        "files": [{"name": name, "bytes": size} for name, size in files.items()],
        "contract": json.loads(ours.contract.to_json()) if ours else None,
        "goldens": _goldens(ours) if ours else None,
        "digests": "each is right" if ours else None,
        "problems": problems,
    }


def _files(content: bytes) -> tuple[dict[str, int], int, list[str]]:
    """Return the files behind the model, by name in bytes, where it ends, and what is damaged."""
    if not Members.behind(content):
        if zipfile.is_zipfile(io.BytesIO(content)):
            return {}, len(content), ["something follows the files inside: they are not read"]
        return {}, len(content), []
    sizes, end = {}, len(content)
    try:
        with damaged("the files inside cannot be read"):
            members = Members(content)
            sizes, end = members.sizes, members.end
        for name in sizes:
            with damaged(f"{name:.60} cannot be read"):
                members.read(name)
    except BadData as error:
        return sizes, end, [f"damaged: {error}"]
    return sizes, end, []


def _associated(values: Any) -> set[str]:
    """Return the names of all files that metadata speaks of, wherever it does."""
    if isinstance(values, list):
        return {name for each in values for name in _associated(each)}
    if not isinstance(values, dict):
        return set()
    found = {name for each in values.values() for name in _associated(each)}
    lists = (values.get(key, []) for key in _FILES)
    return found | {each.get("name", "") for files in lists for each in files}


def _unknown(operations: list[Operator]) -> list[str]:
    """Say what is of a later schema than the one that reads it."""
    words = {word for each in operations for word in (each.name, each.activation, *_types(each))}
    found = sorted(word for word in words if word.startswith(f"{UNKNOWN} "))
    return [f"of a later TFLite than the one here: {', '.join(found)}"] if found else []


def _types(operator: Operator) -> list[str]:
    return [tensor.type for tensor in (*operator.inputs, *operator.outputs)]


def _end(tensor: Tensor) -> dict[str, Any]:
    """Return what there is to know of an input or output; open dimensions are -1."""
    return {
        "name": tensor.name,
        "type": tensor.type,
        "shape": list(tensor.shape),
        "scale": list(tensor.scales),
        "zero_point": list(tensor.zero_points),
    }


def _goldens(file: model_file.ModelFile) -> dict[str, Any]:
    told = [
        {"photo": goldens.name(i), "label": each.label, "scores": list(each.scores)}
        for i, each in enumerate(file.goldens)
    ]
    return {"tolerance": file.tolerance, "photos": told}
