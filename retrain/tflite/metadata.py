"""Write TFLite metadata, which describes a model to other runtimes, into its flatbuffer.

MediaPipe Tasks, ML Kit and Android Studio then load the file as it is. The format:
https://www.tensorflow.org/lite/models/convert/metadata.
"""

from typing import Any

import flatbuffers

from deploy import goldens
from deploy.contract import Contract
from deploy.errors import BadData
from deploy.flatbuffer import check
from deploy.untrusted_files import damaged
from retrain.settings.conversion import About
from retrain.tflite import metadata_schema

_NAME = "TFLITE_METADATA"
_ALIGNMENT_BYTES = 16
"""The TFLite schema requires it of every buffer's content."""
_SLOTS, _BUFFERS_SLOT, _METADATA_SLOT = 10, 4, 6
"""Slots of the schema's table Model: slot 0 is a number, all others are vectors or a string."""


def describe(contract: Contract, about: About, golden_photos: int) -> dict[str, Any]:
    """Return the ModelMetadata, as `metadata_schema.to_bytes` takes it.

    It has the normalization of the float model for uint8 inputs as well, as the format requires.
    """
    spec = contract.input
    area = "the whole frame" if spec.crop is None else f"the centred {spec.crop:.1%} of the frame"
    general = {
        "name": about.name or f"{contract.backbone}, {len(contract.labels)} classes",
        "description": f"Tells which of {len(contract.labels)} labels a photo shows. Made by "
        f"retrain {contract.tool_version} from {contract.backbone}",
        "version": contract.graph_sha256[:12],
        "author": about.author,
        "license": about.licence,
        "min_parser_version": "1.0.0",
    }
    image = {
        "name": "image",
        "description": f"An upright RGB photo: {area}, resized to {spec.width}x{spec.height} "
        f"pixels, {spec.filter}",
        "content": {
            "content_properties": {
                "ImageProperties": {
                    "color_space": spec.order,
                    "default_size": {"width": spec.width, "height": spec.height},
                }
            }
        },
        "process_units": [
            {"options": {"NormalizationOptions": {"mean": [spec.mean], "std": [spec.std]}}}
        ],
    }
    probability = {
        "name": "probability",
        "description": "The probability of each label, of 0..1",
        "content": {"content_properties": {"FeatureProperties": {}}},
        "associated_files": [
            {
                "name": "labels.txt",
                "description": "The labels, one a line, in the order of the output",
                "type": "TENSOR_AXIS_LABELS",
            }
        ],
    }
    files = {"contract.json": "How a photo becomes the input, and where the model came from"}
    if golden_photos:
        files["goldens.json"] = "What the golden photos must give on any device"
        files |= {goldens.name(i): "A golden photo" for i in range(golden_photos)}
    return {
        **{field: value for field, value in general.items() if value},
        "subgraph_metadata": [
            {"input_tensor_metadata": [image], "output_tensor_metadata": [probability]}
        ],
        "associated_files": [
            {"name": name, "description": text, "type": "DESCRIPTIONS"}
            for name, text in files.items()
        ],
    }


def attach(flatbuffer: bytes, values: dict[str, Any]) -> bytes:
    """Return the model `flatbuffer` with this ModelMetadata, which replaces any other.

    The model's bytes stay as they are, at the end: a new root before them refers to its parts and
    to the metadata. So weights keep their alignment, which a Python writer would lose.
    """
    old = flatbuffer + bytes(-len(flatbuffer) % _ALIGNMENT_BYTES)
    model = _model(old)
    data = metadata_schema.to_bytes(values)
    builder = flatbuffers.Builder(len(old) + len(data) + 65536)
    builder.Prep(_ALIGNMENT_BYTES, len(old))
    _place(builder, old)
    builder.StartVector(1, len(data), _ALIGNMENT_BYTES)
    _place(builder, data)
    buffer = _table(builder, {0: builder.EndVector()})
    name = builder.CreateString(_NAME)
    entry = _table(builder, {0: name}, {1: model.BuffersLength()})
    root = model._tab
    parts = {
        slot: len(old) - root.Indirect(root.Pos + root.Offset(4 + 2 * slot))
        for slot in range(1, _SLOTS)
        if root.Offset(4 + 2 * slot)
    }
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    entries = [item for item in _entries(model) if item.Name() != _NAME.encode()]
    for slot, old_items, new in (
        (_BUFFERS_SLOT, buffers, buffer),
        (_METADATA_SLOT, entries, entry),
    ):
        builder.StartVector(4, len(old_items) + 1, 4)
        builder.PrependUOffsetTRelative(new)
        for item in reversed(old_items):
            builder.PrependUOffsetTRelative(len(old) - item._tab.Pos)
        parts[slot] = builder.EndVector()
    builder.Finish(_table(builder, parts, {0: model.Version()}), file_identifier=b"TFL3")
    return bytes(builder.Output())


def extract(flatbuffer: bytes) -> dict[str, Any] | None:
    """Return the ModelMetadata in a model, None if it has none; raise BadData if it is damaged."""
    model = _model(flatbuffer)
    with damaged("damaged: its metadata cannot be found"):
        indices = [item.Buffer() for item in _entries(model) if item.Name() == _NAME.encode()]
        if not indices:
            return None
        data = model.Buffers(range(model.BuffersLength())[indices[0]]).DataAsNumpy().tobytes()
    return metadata_schema.from_bytes(data)


def require(flatbuffer: bytes, values: dict[str, Any]) -> None:
    """Raise BadData if a model's ModelMetadata is not `values`, numbers as float32."""
    written = extract(flatbuffer)
    if written is None or metadata_schema.to_bytes(written) != metadata_schema.to_bytes(values):
        raise BadData("the metadata in the model differs from what was written")


def _model(flatbuffer: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    check(flatbuffer)
    return schema.Model.GetRootAs(flatbuffer)


def _entries(model: Any) -> list[Any]:
    return [model.Metadata(i) for i in range(model.MetadataLength())]


def _place(builder: Any, data: bytes) -> None:
    """Put bytes in front of the builder's content; the caller has made room for them."""
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data


def _table(builder: Any, offsets: dict[int, int], numbers: dict[int, int] | None = None) -> int:
    """Write a table with these slots: offsets into the builder, and unsigned numbers."""
    numbers = numbers or {}
    builder.StartObject(max([*offsets, *numbers]) + 1)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in numbers.items():
        builder.PrependUint32Slot(slot, number, 0)
    return int(builder.EndObject())
