"""List the content of any .tflite file as text and numbers; run nothing."""

import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import asdict
from typing import Any

from deploy import goldens, model_file
from deploy.errors import BadData
from deploy.untrusted_files import damaged
from deploy.zip_members import Members
from retrain.tflite import metadata as model_metadata
from retrain.tflite.model import UNKNOWN, Operator, Tensor, read_model

_MADE_HERE = re.compile(rb"Made by retrain |  model\n[0-9a-f]{64}  contract\.json\n")
"""Match the metadata and the SHA256SUMS of a file that `retrain convert` made."""
_FILE_FIELDS = ("associated_files", "vocab_file", "sentencePiece_model")
"""The fields of metadata that list files."""


def inspect(content: bytes) -> dict[str, Any]:
    """Return all that a .tflite file holds, as a JSON object.

    `contract`, `goldens` and `digests` are None unless `retrain convert` made the file. `problems`
    lists what cannot be read, and what is missing. Raises BadData for what is no .tflite file, one
    whose flatbuffer cannot be read, and one that `retrain convert` made and that is damaged
    anywhere.
    """
    files, end, problems = _read_files(content)
    made_here = bool(_MADE_HERE.search(content))
    if made_here and problems:
        raise BadData(f"{problems[0]}: copy it again")
    required = model_file.REQUIRED_MEMBERS
    marks = sorted(required & set(files))
    complete = made_here and len(marks) == len(required)
    packed = model_file.unpack(content) if complete else None
    flatbuffer = content[:end]
    model = read_model(flatbuffer)
    metadata = None
    try:
        metadata = model_metadata.extract(flatbuffer)
    except BadData as error:
        problems.append(str(error))
    listed = _listed_files(metadata)
    missing = ", ".join(sorted(listed - {"", *files}))
    if made_here and (missing or not packed):
        raise BadData(f"damaged: {missing or 'its files'} should be in it: copy it again")
    if missing:
        problems.append(f"its metadata lists files that are not there: {missing}")
    if "" in listed:
        problems.append("its metadata lists a file without a name")
    if marks and not packed:
        problems.append(f"{', '.join(marks)} in it, but not of this project: not read")
    problems += _unknown_names(model.operators)
    counts = Counter((operator.name, operator.version) for operator in model.operators)
    return {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "model": {
            "bytes": end,
            "description": model.description or None,
            "subgraphs": len(model.subgraphs),
            "signatures": [asdict(signature) for signature in model.signatures],
            "inputs": [_tensor_to_json(tensor) for tensor in model.subgraphs[0].inputs],
            "outputs": [_tensor_to_json(tensor) for tensor in model.subgraphs[0].outputs],
            "operators": [
                {"name": name, "version": version, "count": count}
                for (name, version), count in sorted(counts.items())
            ],
            "metadata": [{"name": name, "bytes": size} for name, size in model.metadata],
        },
        "metadata": metadata,
        "files": [{"name": name, "bytes": size} for name, size in files.items()],
        "contract": json.loads(packed.contract.to_json()) if packed else None,
        "goldens": _goldens_to_json(packed) if packed else None,
        "digests": "each is right" if packed else None,
        "problems": problems,
    }


def _read_files(content: bytes) -> tuple[dict[str, int], int, list[str]]:
    """Return the sizes in bytes of the files behind the model, its own, and what is damaged."""
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


def _listed_files(values: Any) -> set[str]:
    """Return the names of all files that metadata lists, in any of its parts."""
    if isinstance(values, list):
        return {name for item in values for name in _listed_files(item)}
    if not isinstance(values, dict):
        return set()
    inner = {name for item in values.values() for name in _listed_files(item)}
    lists = (values.get(key, []) for key in _FILE_FIELDS)
    return inner | {file.get("name", "") for files in lists for file in files}


def _unknown_names(operators: list[Operator]) -> list[str]:
    """Return a problem if something is of a later schema than the one that reads it."""
    names = {
        name
        for operator in operators
        for name in (operator.name, operator.activation, *_types(operator))
    }
    unknown = sorted(name for name in names if name.startswith(f"{UNKNOWN} "))
    return [f"of a later TFLite than the one here: {', '.join(unknown)}"] if unknown else []


def _types(operator: Operator) -> list[str]:
    return [tensor.type for tensor in (*operator.inputs, *operator.outputs)]


def _tensor_to_json(tensor: Tensor) -> dict[str, Any]:
    """Return an input or output as a JSON object; open dimensions are -1."""
    return {
        "name": tensor.name,
        "type": tensor.type,
        "shape": list(tensor.shape),
        "scale": list(tensor.scales),
        "zero_point": list(tensor.zero_points),
    }


def _goldens_to_json(file: model_file.ModelFile) -> dict[str, Any]:
    photos = [
        {"photo": goldens.name(i), "label": golden.label, "scores": list(golden.scores)}
        for i, golden in enumerate(file.goldens)
    ]
    return {"tolerance": file.tolerance, "photos": photos}
