"""Check the offsets of a .tflite flatbuffer before a runtime or a reader follows them.

LiteRT makes the same check in C++. tflite-runtime 2.14 makes none, and a wrong offset crashes it.
The tables are those of tensorflow/lite/schema/schema.fbs.
"""

import struct

import numpy as np

from deploy.errors import BadData

IDENTIFIER = b"TFL3"
_TABLES = {
    "Model": "4 OperatorCode* SubGraph* 1* Buffer* 4* Metadata* SignatureDef*",
    "OperatorCode": "1 1* 4 4",
    "SubGraph": "Tensor* 4* 4* Operator* 1* 4",
    "Tensor": "4* 1 4 1* Quantization 1 Sparsity 4* 1 VariantTensor*",
    "Quantization": "4* 4* scale* zero_point* 1 Union 4",
    "Sparsity": "4* 4* Dimension*",
    "Dimension": "1 4 1 Union 1 Union",
    "VariantTensor": "4* 1 1",
    "Operator": "4 4* 4* 1 Union 1* 1 1* 4* 8 8 1 Union 4",
    "Buffer": "1* 8 8",
    "Metadata": "1* 4",
    "SignatureDef": "TensorMap* TensorMap* 1* 1* 4",
    "TensorMap": "1* 4",
    "Union": "",
}
"""Fields of each table in order: the bytes of a number, or another table; * marks a vector."""
_NUMBERS = {
    "scale": ("<f4", np.float32(1e-30), np.float32(1e30)),
    "zero_point": ("<i8", np.int64(-128), np.int64(255)),
}
"""Type and limits of numbers that LiteRT 2.3 does not check; others crash it."""
_MAX_READS_PER_BYTE = 4
"""Tables may share bytes, but reading a small file must not take minutes."""
_word, _distance = struct.Struct("<I").unpack_from, struct.Struct("<i").unpack_from
Reference = tuple[int, str, int]


def check(content: bytes) -> None:
    """Raise BadData for bytes that are not a TFLite model or have offsets out of the file.

    A file whose tables share bytes so often that reading it would take minutes is refused too.
    Bytes behind the flatbuffer, such as a .tflite's zip, count as part of it.
    """
    if content[4:8] != IDENTIFIER:
        raise BadData("not a .tflite model")
    try:
        _walk(content)
    except (struct.error, IndexError) as error:
        raise BadData("the model is damaged: an offset in it leads nowhere") from error


def _walk(content: bytes) -> None:
    size = len(content)
    remaining = _MAX_READS_PER_BYTE * size
    layouts: dict[tuple[int, str], tuple[int, list[Reference]]] = {}
    numbers: dict[str, list[bytes]] = {kind: [] for kind in _NUMBERS}
    tables = [(_word(content, 0)[0], "Model")]
    while tables:
        at, name = tables.pop()
        key = at - _distance(content, at)[0], name
        if key not in layouts:
            layouts[key] = _layout(content, *key)
            remaining -= struct.unpack_from("<H", content, key[0])[0]
        length, references = layouts[key]
        remaining -= length
        if at + length > size:
            raise IndexError(at)
        for place, kind, width in references:
            target = at + place + _word(content, at + place)[0]
            if not width:
                tables.append((target, kind))
                continue
            count = _word(content, target)[0]
            remaining -= 4 + width * count
            target += 4
            if target + width * count > size:
                raise IndexError(target)
            if remaining < 0:
                raise BadData("the model is damaged: its parts are shared without end")
            if kind in _NUMBERS:
                numbers[kind].append(content[target : target + width * count])
            elif kind:
                offsets = struct.unpack_from(f"<{count}I", content, target)
                tables += [(target + 4 * i + offset, kind) for i, offset in enumerate(offsets)]
    if not any(table == "SubGraph" for _, table in layouts):
        raise BadData("the model is damaged: there is no graph in it")
    for kind, (form, lowest, highest) in _NUMBERS.items():
        values = np.frombuffer(b"".join(numbers[kind]), form)
        if values.size and not lowest <= values.min() <= values.max() <= highest:
            raise BadData(f"the model is damaged: a {kind.replace('_', ' ')} in it is impossible")


def _layout(content: bytes, at: int, table: str) -> tuple[int, list[Reference]]:
    """Return the size of a table in bytes and its references: place, kind, width of an item."""
    own, length = struct.unpack_from("<HH", content, at)
    if at < 0 or own < 4 or own % 2:
        raise IndexError(at)
    places = struct.unpack_from(f"<{own // 2 - 2}H", content, at + 4)
    if max(places, default=0) >= max(length, 4):
        raise IndexError(at)
    references = []
    for place, field in zip(places, _TABLES[table].split(), strict=False):
        kind = field.rstrip("*")
        width = int(kind) if kind.isdigit() else 8 if kind == "zero_point" else 4
        if place and place + (4 if kind != field else width) > length:
            raise IndexError(at)
        if place and (kind != field or not kind.isdigit()):
            many = kind != field
            references.append((place, "" if kind.isdigit() else kind, width if many else 0))
    return length, references
