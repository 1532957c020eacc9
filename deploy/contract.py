"""What a model expects of an image and means by its outputs: frozen values, to and from JSON."""

import codecs
import json
import math
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

from deploy.errors import BadData
from deploy.foreign_files import damaged, parse_json
from deploy.system.terminal import hides

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes a tensor; training, calibration and the device share it.

    `height` and `width` are pixels. `crop` is the fraction of the largest centred box of that
    shape which is kept; None squashes the whole frame. `mean` and `std` are of 0..255.
    """

    height: int
    width: int
    crop: float | None
    mean: float
    std: float
    filter: str = "bicubic"
    order: str = "RGB"

    def __post_init__(self) -> None:
        if not all(type(side) is int and 0 < side <= 4096 for side in (self.height, self.width)):
            raise BadData(f"input size {self.height}x{self.width} is not within 1..4096 pixels")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise BadData(f"crop {self.crop} is not within 0..1")
        if not (0 < self.std < math.inf and 0 <= self.mean <= 255):
            raise BadData(f"mean {self.mean} and std {self.std} are not of pixels 0..255")
        if (self.filter, self.order) != ("bicubic", "RGB"):
            raise BadData(f"this version reads RGB, bicubic; not {self.order}, {self.filter}")


@dataclass(frozen=True)
class Contract:
    """All that a device must know of a model besides its weights, and where it came from.

    The SHA-256 digests are hexadecimal: of the backbone's weights, of the photos with their
    labels, and of the frozen graph. `output` is the graph's operation that gives probabilities.
    `temperature` is what its logits were divided by, so that a probability is a share of right
    answers, as far as the validation photos tell: nobody needs to divide again. A photo whose best
    score is below `reject_threshold` is unknown; None is for never. `recipe` is how a model file
    was made of the graph, None for the graph itself.
    """

    input: InputSpec
    labels: tuple[str, ...]
    backbone: str
    weights_sha256: str
    dataset_sha256: str
    graph_sha256: str
    tool_version: str
    output: str = "final_result"
    temperature: float = 1.0
    reject_threshold: float | None = None
    recipe: str | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.labels:
            raise BadData("the contract has no labels")
        if not (self.reject_threshold is None or 0 <= self.reject_threshold <= 1):
            raise BadData(f"reject threshold {self.reject_threshold} is not within 0..1")
        for label in self.labels:
            if not isinstance(label, str) or "\n" in label or "\r" in label:
                raise BadData(f"label {label!r} is not one line of text")

    def to_json(self) -> str:
        """Return JSON text, keys in order, ending with a newline."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Contract":
        """Read what `to_json` wrote; raise BadData for anything else, naming the field."""
        with damaged("the contract cannot be read"):
            values = parse_json(text)
            if not isinstance(values, dict):
                raise ValueError("it is no object")
            version = values["schema_version"]
            if type(version) is int and version > SCHEMA_VERSION:
                raise BadData(
                    f"the contract has schema version {version}, this program "
                    f"reads up to {SCHEMA_VERSION}: update retrain-tflite"
                )
            return cls(**_checked(cls, values))


_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    float | None: ((int, float, NoneType), "a number or null"),
    str: ((str,), "text"),
    str | None: ((str, NoneType), "text or null"),
    tuple[str, ...]: ((list,), "a list of text"),
    InputSpec: ((dict,), "an object"),
}
"""The JSON types of a field, by its type in Python."""
_LOWEST = {"std": 1e-6, "temperature": 1e-6, "schema_version": 1}
"""What a field is at least; all others have a check of their own."""
_LARGEST = 1e6
_MAX_TEXT = 1_000
_MAX_LABELS = 100_000


def _checked(cls: type, values: Any) -> dict[str, Any]:
    """Return `values` of JSON as the fields of a dataclass; raise ValueError with the field."""
    if not isinstance(values, dict):
        raise ValueError(f"{values!r:.40} is no object")
    kinds = {each.name: each.type for each in fields(cls)}
    unknown = set(values) - set(kinds)
    if unknown:
        raise ValueError(f"{min(unknown)!r:.60} is no field of this version")
    for each in fields(cls):
        if each.name not in values and each.default is MISSING:
            raise ValueError(f"{each.name} is not there")
    return {name: _value(name, value, kinds[name]) for name, value in values.items()}


def _value(name: str, value: Any, kind: Any) -> Any:
    types, words = _KINDS[kind]
    texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    if (
        isinstance(value, bool)
        or not isinstance(value, types)
        or not all(isinstance(each, str) for each in texts)
    ):
        raise ValueError(f"{name} is {value!r:.40}, not {words}")
    if len(texts) > _MAX_LABELS or max(map(len, texts), default=0) > _MAX_TEXT:
        raise ValueError(f"{name}: more than {_MAX_LABELS:,} texts, or {_MAX_TEXT:,} characters")
    if isinstance(value, int | float) and not _LOWEST.get(name, -_LARGEST) <= value <= _LARGEST:
        raise ValueError(f"{name} is {value!r:.40}, not a number that it can be")
    if kind is InputSpec:
        return InputSpec(**_checked(InputSpec, value))
    return tuple(value) if isinstance(value, list) else value


def read_labels(text: str) -> tuple[str, ...]:
    """Return the labels of a labels file: UTF-8 text, one label a line, in output order.

    A byte order mark, which editors of Windows put first, is no part of a label.
    """
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    return tuple(line.removesuffix("\r") for line in lines)


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Return the labels of the file at `path`; raise BadData for one that is not UTF-8."""
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content
    with suppress(UnicodeDecodeError):
        if not utf16:
            return read_labels(content.decode())
    kind = "UTF-16 text, or no text" if utf16 else "not UTF-8 text"
    raise BadData(f"{path}: {kind}: save it as UTF-8 in an editor")


def check_label(label: str) -> None:
    """Raise BadData for a label that no new model may have: one that a screen cannot show."""
    if hides(label):
        raise BadData(f"label {label!r} holds a control character or an invisible one")


def write_labels(labels: tuple[str, ...]) -> str:
    """Return the text of a labels file, one label a line."""
    return "".join(f"{label}\n" for label in labels)
