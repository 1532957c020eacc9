"""Tell other people's runtimes what a model is: TFLite metadata, put into its flatbuffer.

With it MediaPipe Tasks, ML Kit and Android Studio load the file as it is. The format:
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
_ALIGNMENT = 16
"""Bytes, of every buffer's content: the TFLite schema asks for it."""
_SLOTS, _BUFFERS, _METADATA = 10, 4, 6
"""Of the schema's table Model: slot 0 is a number, all the others are vectors or a string."""


def describe(contract: Contract, about: About, golden_photos: int) -> dict[str, Any]:
    """Return the ModelMetadata, as `metadata_schema.to_bytes` takes it.

    The normalization is told for uint8 inputs as well: that of the float model, as the format asks.
    """
    spec = contract.input
    kept = "the whole frame" if spec.crop is None else f"the centred {spec.crop:.1%} of the frame"
    told = {
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
        "description": f"An upright RGB photo: {kept}, resized to {spec.width}x{spec.height} "
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
        **{field: value for field, value in told.items() if value},
        "subgraph_metadata": [
            {"input_tensor_metadata": [image], "output_tensor_metadata": [probability]}
        ],
        "associated_files": [
            {"name": name, "description": text, "type": "DESCRIPTIONS"}
            for name, text in files.items()
        ],
    }


def attach(flatbuffer: bytes, values: dict[str, Any]) -> bytes:
    """Return the model `flatbuffer` with this ModelMetadata, instead of one that it may have.

    The model's bytes stay as they are, at the end: a new root before them leads to its parts and
    to the metadata. So weights keep their alignment, which a Python writer does not see to.
    """
    old = flatbuffer + bytes(-len(flatbuffer) % _ALIGNMENT)
    model = _model(old)
    data = metadata_schema.to_bytes(values)
    builder = flatbuffers.Builder(len(old) + len(data) + 65536)
    builder.Prep(_ALIGNMENT, len(old))
    _place(builder, old)
    builder.StartVector(1, len(data), _ALIGNMENT)
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
    entries = [each for each in _entries(model) if each.Name() != _NAME.encode()]
    for slot, there, new in ((_BUFFERS, buffers, buffer), (_METADATA, entries, entry)):
        builder.StartVector(4, len(there) + 1, 4)
        builder.PrependUOffsetTRelative(new)
        for each in reversed(there):
            builder.PrependUOffsetTRelative(len(old) - each._tab.Pos)
        parts[slot] = builder.EndVector()
    builder.Finish(_table(builder, parts, {0: model.Version()}), file_identifier=b"TFL3")
    return bytes(builder.Output())


def extract(flatbuffer: bytes) -> dict[str, Any] | None:
    """Return the ModelMetadata that a model holds, None without; raise BadData if it is damaged."""
    model = _model(flatbuffer)
    with damaged("damaged: its metadata cannot be found"):
        places = [each.Buffer() for each in _entries(model) if each.Name() == _NAME.encode()]
        if not places:
            return None
        data = model.Buffers(range(model.BuffersLength())[places[0]]).DataAsNumpy().tobytes()
    return metadata_schema.from_bytes(data)


def require(flatbuffer: bytes, values: dict[str, Any]) -> None:
    """Raise BadData if `extract` finds another ModelMetadata in a model, numbers as float32."""
    found = extract(flatbuffer)
    if found is None or metadata_schema.to_bytes(found) != metadata_schema.to_bytes(values):
        raise BadData("the metadata in the model reads otherwise than it was written")


def _model(flatbuffer: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    check(flatbuffer)
    return schema.Model.GetRootAs(flatbuffer)


def _entries(model: Any) -> list[Any]:
    return [model.Metadata(i) for i in range(model.MetadataLength())]


def _place(builder: Any, data: bytes) -> None:
    """Put bytes in front of what the builder holds; it has been told to make room for them."""
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data


def _table(builder: Any, offsets: dict[int, int], numbers: dict[int, int] | None = None) -> int:
    """Write a table of these slots: offsets to what is in the builder, and unsigned numbers."""
    numbers = numbers or {}
    builder.StartObject(max([*offsets, *numbers]) + 1)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in numbers.items():
        builder.PrependUint32Slot(slot, number, 0)
    return int(builder.EndObject())
