"""Convert TFLite metadata between its flatbuffer and plain dictionaries.

The tables are those of metadata_schema.fbs, version 1.5.0, as MediaPipe reads them
(https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs).
A field that is not set is not in the dictionary; a union is a dictionary with one key, the name of
the table that it holds; a value of an enumeration is its name.
"""

from typing import Any

import flatbuffers
from flatbuffers import number_types as numbers
from flatbuffers.table import Table

from deploy.errors import BadData
from deploy.untrusted_files import damaged

IDENTIFIER = b"M001"

_TABLES = {
    "AssociatedFile": "name:string description:string type:AssociatedFileType locale:string "
    "version:string",
    "FeatureProperties": "",
    "ImageSize": "width:uint height:uint",
    "ImageProperties": "color_space:ColorSpaceType default_size:ImageSize",
    "AudioProperties": "sample_rate:uint channels:uint",
    "BoundingBoxProperties": "index:[uint] type:BoundingBoxType coordinate_type:CoordinateType",
    "ValueRange": "min:int max:int",
    "Content": "content_properties:ContentProperties range:ValueRange",
    "NormalizationOptions": "mean:[float] std:[float]",
    "ScoreCalibrationOptions": "score_transformation:ScoreTransformationType default_score:float",
    "ScoreThresholdingOptions": "global_score_threshold:float",
    "BertTokenizerOptions": "vocab_file:[AssociatedFile]",
    "SentencePieceTokenizerOptions": "sentencePiece_model:[AssociatedFile] "
    "vocab_file:[AssociatedFile]",
    "RegexTokenizerOptions": "delim_regex_pattern:string vocab_file:[AssociatedFile]",
    "ProcessUnit": "options:ProcessUnitOptions",
    "Stats": "max:[float] min:[float]",
    "TensorGroup": "name:string tensor_names:[string]",
    "TensorMetadata": "name:string description:string dimension_names:[string] content:Content "
    "process_units:[ProcessUnit] stats:Stats associated_files:[AssociatedFile]",
    "CustomMetadata": "name:string data:[ubyte]",
    "SubGraphMetadata": "name:string description:string input_tensor_metadata:[TensorMetadata] "
    "output_tensor_metadata:[TensorMetadata] associated_files:[AssociatedFile] "
    "input_process_units:[ProcessUnit] output_process_units:[ProcessUnit] "
    "input_tensor_groups:[TensorGroup] output_tensor_groups:[TensorGroup] "
    "custom_metadata:[CustomMetadata]",
    "ModelMetadata": "name:string description:string version:string "
    "subgraph_metadata:[SubGraphMetadata] author:string license:string "
    "associated_files:[AssociatedFile] min_parser_version:string",
}
_UNIONS = {
    "ContentProperties": "FeatureProperties ImageProperties BoundingBoxProperties AudioProperties",
    "ProcessUnitOptions": "NormalizationOptions ScoreCalibrationOptions ScoreThresholdingOptions "
    "BertTokenizerOptions SentencePieceTokenizerOptions RegexTokenizerOptions",
}
_ENUMS = {
    "AssociatedFileType": "UNKNOWN DESCRIPTIONS TENSOR_AXIS_LABELS TENSOR_VALUE_LABELS "
    "TENSOR_AXIS_SCORE_CALIBRATION VOCABULARY SCANN_INDEX_FILE",
    "ColorSpaceType": "UNKNOWN RGB GRAYSCALE",
    "BoundingBoxType": "UNKNOWN BOUNDARIES UPPER_LEFT CENTER",
    "CoordinateType": "RATIO PIXEL",
    "ScoreTransformationType": "IDENTITY LOG INVERSE_LOGISTIC",
}
_NUMBERS = {
    "uint": numbers.Uint32Flags,
    "int": numbers.Int32Flags,
    "float": numbers.Float32Flags,
    "ubyte": numbers.Uint8Flags,
}
_OFFSET = numbers.UOffsetTFlags
_MAX_READS_PER_BYTE = 4
"""Parts of a flatbuffer may be shared, and are read once for each use."""


def _fields(table: str) -> list[tuple[int, str, str]]:
    """Return slot, name and kind of each field; a union's slot is that of its value."""
    fields, slot = [], 0
    for field in _TABLES[table].split():
        name, kind = field.split(":")
        slot += kind in _UNIONS  # the slot before it holds the table's number
        fields.append((slot, name, kind))
        slot += 1
    return fields


def to_bytes(values: dict[str, Any]) -> bytes:
    """Return the flatbuffer of a ModelMetadata; raise KeyError for an unknown field."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, "ModelMetadata", values), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _write(builder: Any, table: str, values: dict[str, Any]) -> int:
    fields = _fields(table)
    unknown = set(values) - {name for _, name, _ in fields}
    if unknown:
        raise KeyError(f"{table} has no {', '.join(unknown)}")
    # A flatbuffer's tables are not nested: parts are written first.
    parts = {
        name: _write_part(builder, kind, values[name]) for _, name, kind in fields if name in values
    }
    builder.StartObject(fields[-1][0] + 1 if fields else 0)
    for slot, name, kind in fields:
        if name not in values:
            continue
        if kind in _NUMBERS:
            builder.PrependSlot(_NUMBERS[kind], slot, values[name], None)
        elif kind in _ENUMS:
            number = _ENUMS[kind].split().index(values[name])
            builder.PrependInt8Slot(slot, number, None)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, parts[name], 0)
            if kind in _UNIONS:
                (member,) = values[name]
                builder.PrependUint8Slot(slot - 1, 1 + _UNIONS[kind].split().index(member), 0)
    return int(builder.EndObject())


def _write_part(builder: Any, kind: str, value: Any) -> int:
    """Write a value that lies outside of its table, and return its offset; 0 for a number."""
    if kind in _NUMBERS or kind in _ENUMS:
        return 0
    if kind == "string":
        return int(builder.CreateString(value))
    if kind in _UNIONS:
        ((member, inner),) = value.items()
        return _write(builder, member, inner)
    if not kind.startswith("["):
        return _write(builder, kind, value)
    kind = kind[1:-1]
    if kind == "ubyte":
        return int(builder.CreateByteVector(bytes.fromhex(value)))
    flags = _NUMBERS.get(kind)
    items = value if flags else [_write_part(builder, kind, item) for item in value]
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        if flags:
            builder.Prepend(flags, item)
        else:
            builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def from_bytes(data: bytes) -> dict[str, Any]:
    """Return a ModelMetadata from its flatbuffer; bytes are in hexadecimal.

    Raises BadData if it is none, or is damaged.
    """
    if data[4:8] != IDENTIFIER:
        raise BadData("its metadata is not TFLite metadata of version M001")
    with damaged("its metadata is damaged, or of a later version: not read"):
        root = Table(data, 0).Get(_OFFSET, 0)
        return _Reader(_MAX_READS_PER_BYTE * len(data)).table(Table(data, root), "ModelMetadata")


class _Reader:
    """Reads tables, `left` bytes at most: parts may share bytes."""

    def __init__(self, left: int) -> None:
        self._left = left

    def table(self, table: Table, name: str) -> dict[str, Any]:
        """Return the fields of `table`, one of _TABLES."""
        self._count(4)
        values: dict[str, Any] = {}
        for slot, field, kind in _fields(name):
            offset = table.Offset(4 + 2 * slot)
            if not offset:
                continue
            if kind in _UNIONS:
                which = table.Get(numbers.Uint8Flags, table.Pos + table.Offset(4 + 2 * (slot - 1)))
                member = ["", *_UNIONS[kind].split()][which]
                values[field] = {member: self._value(table, offset + table.Pos, member)}
            else:
                values[field] = self._value(table, offset + table.Pos, kind)
        return values

    def _value(self, table: Table, at: int, kind: str) -> Any:
        """Return the value that is at `at`, or that the offset there leads to."""
        if kind in _NUMBERS:
            return table.Get(_NUMBERS[kind], at)
        if kind in _ENUMS:
            return _ENUMS[kind].split()[table.Get(numbers.Uint8Flags, at)]
        if kind == "string":
            text = table.String(at).decode()
            self._count(len(text))
            return text
        if not kind.startswith("["):
            return self.table(Table(table.Bytes, table.Indirect(at)), kind)
        kind = kind[1:-1]
        start = table.Indirect(at)
        length, first = table.Get(_OFFSET, start), start + 4
        width = 1 if kind == "ubyte" else 4
        if first + length * width > len(table.Bytes):
            raise ValueError("a vector ends behind the end")
        self._count(length * width)
        if kind == "ubyte":
            return table.Bytes[first : first + length].hex()
        return [self._value(table, first + width * i, kind) for i in range(length)]

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("its parts are shared without end")
