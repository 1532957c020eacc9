"""What earlier versions wrote into a run's folder opens, for ever, and with keys of a later one."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from deploy import files, zip_members
from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.runtime import Model
from deploy.zip_members import Members
from retrain.backbones import Backbone, backbone
from retrain.backbones.int8_trunk import read_trunk
from retrain.report import findings, learning_curve
from retrain.report.run_inputs import read_inputs
from retrain.run_folder import RunFolder

FIRST = Path(__file__).parent / "first_report"
"""A run of the first version with a report and an int8 trunk, converted, pushed and examined."""
LABELS = ("blue", "grün, hell", "red")
TINY = Backbone(
    "tiny.pb",
    InputSpec(32, 32, None, 128.0, 127.5),
    6,
    "2bd4fdb2f21b7f2c233b7c450365cf9ab9d3447dfe4489782cb6acf2d919fae1",
    Path("none"),
    b"",
)
"""The backbone of its trunk, without a graph."""
NAMES = (
    "predictions.parquet",
    "model_predictions.parquet",
    "push.json",
    "doctor.json",
    "learning_curve.json",
    "trunk.tflite",
)
MADE_AGAIN = ("doctor.json", "learning_curve.json")
"""Files of a run that are computed anew where they cannot be read."""


@pytest.fixture(autouse=True)
def _same_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "_PREPARATION_VERSION", 3)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(FIRST, tmp_path / "run"))


def opened(run: RunFolder) -> dict[str, Any]:
    """Return what is read from the files of the run, by name."""
    inputs = read_inputs(run)
    graph_sha256 = inputs.contract.graph_sha256
    trunk = read_trunk(run.trunk, TINY)
    values = (
        inputs.rows,
        inputs.model_rows,
        inputs.device,
        findings.read(inputs),
        learning_curve.read(run.learning_curve, graph_sha256),
        (replace(trunk, flatbuffer=b""), Model(trunk.flatbuffer).output_width),
    )
    return dict(zip(NAMES, values, strict=True))


def with_json_keys(path: Path, values: dict[str, Any]) -> None:
    files.write_json(path, json.loads(path.read_text("utf-8")) | values)


def with_table_keys(path: Path, values: dict[str, Any]) -> None:
    table = pq.read_table(path)
    texts = {name: str(value) for name, value in values.items()}
    metadata = {**table.schema.metadata, **texts}
    table = table.append_column("later", table["path"])
    pq.write_table(table.replace_schema_metadata(metadata), path)


def with_trunk_keys(path: Path, values: dict[str, Any]) -> None:
    content = path.read_bytes()
    members = Members(content)
    about = json.loads(members.read("trunk.json")) | values
    packed = {"trunk.json": json.dumps(about).encode()}
    path.write_bytes(zip_members.append(content[: members.end], packed))


EDITS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    ".json": with_json_keys,
    ".parquet": with_table_keys,
    ".tflite": with_trunk_keys,
}


def add_keys(path: Path, **values: Any) -> None:
    EDITS[path.suffix](path, values)


def test_the_files_open(run: RunFolder) -> None:
    content = opened(run)
    rows = content["predictions.parquet"]
    assert [row.split for row in rows] == 6 * ["validation"] + 4 * ["testing"]
    assert all(row.is_right and 0.3 < row.probability == row.label_probability for row in rows)
    photos = {(row.path, row.digest, row.label) for row in rows if row.split == "testing"}
    assert {(row.path, row.digest, row.label) for row in content["model_predictions.parquet"]} == (
        photos
    )
    device = content["push.json"]
    assert (device.host, device.selftest.passed) == ("pi@device", True)
    assert (device.selftest.goldens.right, device.selftest.goldens.total) == (2, 2)
    copies = next(item for item in content["doctor.json"] if item.kind == "exact-copy")
    (copy,) = copies.suggested_photos
    assert (copy.path.parts[-3:], copy.label) == (("photos", "red", "copy.png"), "red")
    assert copies.command.startswith(f"retrain doctor {run.folder} --kind exact-copy")
    curve = content["learning_curve.json"]
    assert (curve.labels, curve.held_out) == (LABELS, (2, 5, 3))
    assert [point.photos for point in curve.points] == [3, 3, 5, 11, 14]
    trunk, width = content["trunk.tflite"]
    assert (trunk, width) == (replace(TINY, precision="int8"), TINY.width)


def test_today_the_same_bytes_are_written(run: RunFolder) -> None:
    content = opened(run)
    learning_curve.write(run.learning_curve, content["learning_curve.json"])
    assert run.learning_curve.read_bytes() == (FIRST / "learning_curve.json").read_bytes()
    written = json.loads((FIRST / "doctor.json").read_text("utf-8"))["findings"]
    # A command names the run where it is now.
    findings = [{**finding.to_json(), "command": None} for finding in content["doctor.json"]]
    later = {"inflation": None}  # which came after these files
    assert findings == [{**later, **finding, "command": None} for finding in written]
    device = json.loads((FIRST / "push.json").read_text("utf-8"))
    assert content["push.json"].selftest.to_json() == device["selftest"]


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_a_later_version_are_ignored(run: RunFolder, name: str) -> None:
    before = opened(run)
    add_keys(run.folder / name, schema=7, min_reader=1, later=5)
    assert opened(run) == before


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MADE_AGAIN])
def test_a_file_that_needs_a_newer_reader_is_refused(run: RunFolder, name: str) -> None:
    add_keys(run.folder / name, min_reader=2)
    expected = rf"{name}.*: it needs a reader of version 2, .* reads version 1: install a newer"
    with pytest.raises(BadData, match=expected):
        opened(run)


@pytest.mark.parametrize("name", MADE_AGAIN)
def test_what_can_be_made_again_is_not_read_by_an_older_reader(run: RunFolder, name: str) -> None:
    before = opened(run)
    add_keys(run.folder / name, min_reader=2)
    assert opened(run) == {**before, name: None}
