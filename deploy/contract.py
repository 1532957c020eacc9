"""What a model expects of an image and what its outputs mean: frozen values, to and from JSON."""

import codecs
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy import versioned_json
from deploy.errors import BadData
from deploy.system.terminal import hides
from deploy.untrusted_files import MAX_JSON_BYTES, damaged, parse_json, read
from deploy.versioned_json import Fields

SCHEMA_VERSION = 1
_REMEDY = "copy the file again, or make it again"
_MIN_DIVISOR = 1e-6
_MAX_NUMBER = 1e6
_MAX_TEXT_CHARACTERS = 1_000
MAX_LABELS = 100_000
_OTHER_BYTES = 64 * 1024
"""More than all of a contract but its labels takes."""


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

    @classmethod
    def from_fields(cls, fields: Fields) -> "InputSpec":
        """Return the specification in a JSON object; raise BadData with the field."""
        return cls(
            height=fields.integer("height"),
            width=fields.integer("width"),
            crop=None if fields.is_null("crop") else fields.number("crop"),
            mean=fields.number("mean"),
            std=fields.number("std", least=_MIN_DIVISOR, most=_MAX_NUMBER),
            filter=fields.text("filter", default="bicubic"),
            order=fields.text("order", default="RGB"),
        )


@dataclass(frozen=True)
class Contract:
    """What a device must know of a model besides its weights, and where the model came from.

    The SHA-256 digests are hexadecimal: of the backbone's weights, of the photos with their
    labels, and of the frozen graph. `output` is the graph's operation that gives probabilities.
    `temperature` is the number that the logits are already divided by, chosen on the validation
    photos so that a probability is the share of right answers. A photo whose best score is below
    `reject_threshold` is rejected as unknown; with None no photo is. `recipe` is the recipe of a
    model file, None for the graph itself.
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

    def __post_init__(self) -> None:
        if not self.labels:
            raise BadData("the contract has no labels")
        if len(self.labels) > MAX_LABELS:
            raise BadData(f"the contract has {len(self.labels):,} labels, above {MAX_LABELS:,}")
        if not (self.reject_threshold is None or 0 <= self.reject_threshold <= 1):
            raise BadData(f"reject threshold {self.reject_threshold} is not within 0..1")
        for label in self.labels:
            if not isinstance(label, str) or "\n" in label or "\r" in label:
                raise BadData(f"label {label!r} is not one line of text")
        for name, value in (*vars(self).items(), *(("labels", label) for label in self.labels)):
            if isinstance(value, str) and len(value) > _MAX_TEXT_CHARACTERS:
                raise BadData(
                    f"the contract: {name}: more than {_MAX_TEXT_CHARACTERS:,} characters"
                )

    def to_json(self) -> str:
        """Return JSON text, keys in order, ending with a newline."""
        values = {**asdict(self), "schema_version": SCHEMA_VERSION}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Contract":
        """Return the contract in a JSON text of any version that this program can read.

        Raises BadData, with the field, for anything else; see `deploy.versioned_json`.
        """
        with damaged("the contract cannot be read", _REMEDY):
            values = parse_json(text)
        fields = versioned_json.read(values, "the contract", SCHEMA_VERSION, _REMEDY)
        return cls(
            input=InputSpec.from_fields(fields.object("input")),
            labels=fields.texts("labels"),
            backbone=fields.text("backbone"),
            weights_sha256=fields.text("weights_sha256"),
            dataset_sha256=fields.text("dataset_sha256"),
            graph_sha256=fields.text("graph_sha256"),
            tool_version=fields.text("tool_version"),
            output=fields.text("output", default="final_result"),
            temperature=fields.number("temperature", 1.0, least=_MIN_DIVISOR, most=_MAX_NUMBER),
            reject_threshold=fields.number_or_none("reject_threshold"),
            recipe=fields.text_or_none("recipe"),
        )


def read_labels(text: str) -> tuple[str, ...]:
    """Return the labels in the text of a labels file: one label a line, in output order.

    A byte order mark, which editors of Windows write first, is not part of a label.
    """
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    return tuple(line.removesuffix("\r") for line in lines)


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Return the labels in the file `path`.

    Raises BadData for a file that is not UTF-8, too large for labels or a device, OSError.
    """
    content = read(path, MAX_JSON_BYTES)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content
    with suppress(UnicodeDecodeError):
        if not utf16:
            return read_labels(content.decode())
    kind = "UTF-16 text, or no text" if utf16 else "not UTF-8 text"
    raise BadData(f"{path}: {kind}: save it as UTF-8 in an editor")


def check_label(label: str) -> None:
    """Raise BadData for a label that no new model may have: too long, or not fit for a screen."""
    if hides(label):
        raise BadData(f"label {label!r:.80} holds a control character or an invisible one")
    if len(label) > _MAX_TEXT_CHARACTERS:
        raise BadData(f"label {label!r:.80} has more than {_MAX_TEXT_CHARACTERS:,} characters")


def check_labels(labels: Sequence[str]) -> None:
    """Raise BadData for labels that no contract holds: too many of them, or too much text."""
    if len(labels) > MAX_LABELS:
        raise BadData(
            f"{len(labels):,} labels, more than {MAX_LABELS:,}: check what names the class of a "
            "photo"
        )
    text = json.dumps({"labels": labels}, indent=2, ensure_ascii=False)
    size = len(text.encode("utf-8", "surrogatepass")) + _OTHER_BYTES
    if size > MAX_JSON_BYTES:
        raise BadData(
            f"{len(labels):,} labels take {size:,} bytes in a model, which holds "
            f"{MAX_JSON_BYTES:,}: shorten the names of the classes"
        )


def write_labels(labels: tuple[str, ...]) -> str:
    """Return the text of a labels file, one label a line."""
    return "".join(f"{label}\n" for label in labels)
