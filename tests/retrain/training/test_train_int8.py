"""Training on the bottlenecks of an int8 trunk: what the run keeps, and what others share."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from click.testing import Result

from deploy import files
from deploy.errors import BadData
from deploy.runtime import Model
from retrain.data import split
from retrain.data.photo_pixels import pixels
from retrain.run_folder import RunFolder
from tests.helpers.own_networks import classic, define, save
from tests.helpers.photos import LABELS, PER_LABEL
from tests.helpers.runs import Invoke, Run, shards

Train = Callable[..., Run]
INT8 = ("--extract-precision", "int8")
PHOTOS = PER_LABEL * len(LABELS)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Return the options of a small network and of a cache."""
    folder = tmp_path_factory.mktemp("places")
    graph = save(define(classic), folder / "classic.pb")
    return ("--graph", graph, "--cache-dir", folder / "cache")


@pytest.fixture(scope="module")
def train_small(photos: Path, places: tuple[object, ...], invoke: Invoke) -> Train:
    """Return a function that trains the small network into a folder with options."""

    def run(folder: Path, *options: object) -> Run:
        steps = ("--how-many-training-steps", 40)
        result = invoke("train", photos, *places, *steps, "--output-dir", folder, *options)
        assert result.exit_code == 0, result.output
        return Run(folder, result)

    return run


@pytest.fixture(scope="module")
def int8_run(train_small: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of the int8 trunk, with a distorted view of each photo. Not to be changed."""
    views = ("--flip-left-right", "--views", 1)
    return train_small(tmp_path_factory.mktemp("run"), *INT8, *views)


@pytest.fixture(scope="module")
def bottlenecks(invoke: Invoke, places: tuple[object, ...]) -> Callable[..., Result]:
    """Return a function that runs `retrain bottlenecks` on the small network."""
    return lambda source, *options: invoke("bottlenecks", source, *places, *options, "--json")


def test_a_run_keeps_the_trunk_that_made_its_bottlenecks(
    int8_run: Run, places: tuple[object, ...]
) -> None:
    content = RunFolder(int8_run.folder).trunk.read_bytes()
    assert int8_run.metrics["extract_precision"] == "int8"
    assert int8_run.metrics["trunk_sha256"] == hashlib.sha256(content).hexdigest()
    assert "engine tflite: an int8 trunk\n" in int8_run.result.stderr
    training = sum(name == split.TRAINING for name in int8_run.splits.values())
    assert int8_run.metrics["analysed"] == PHOTOS + training
    model, spec = Model(content), RunFolder(int8_run.folder).read_contract().input
    by_folder = shards(Path(str(places[-1])) / "bottlenecks")
    rows = {key: row for folder in by_folder.values() for key, row in folder.items()}
    for photo, _ in int8_run.manifest[::9]:
        expected = model(pixels(photo, spec)).astype(np.float16)
        np.testing.assert_array_equal(rows[photo.digest, 0], expected)


def test_its_model_is_put_together_and_passes_the_gate(
    int8_run: Run, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(int8_run.folder, tmp_path / "run")
    monkeypatch.setattr("retrain.quantization.quantize.quantize", None)  # no converter
    result = invoke("convert", "--output-dir", tmp_path / "run")
    assert result.exit_code == 0, result.output
    conversion = json.loads((tmp_path / "run" / "conversion.json").read_text("utf-8"))
    assert (conversion["composed"], conversion["passed"]) == (True, True)
    test = int8_run.metrics["test"]
    assert conversion["model"]["right"] == test["right"]


def test_a_float32_run_into_its_folder_removes_the_trunk(
    train_small: Train, tmp_path: Path
) -> None:
    assert train_small(tmp_path, *INT8).metrics["analysed"] == 0
    assert RunFolder(tmp_path).trunk.exists()
    metrics = train_small(tmp_path).metrics
    assert (metrics["analysed"], metrics["extract_precision"]) == (PHOTOS, "float32")
    assert "trunk_sha256" not in metrics
    assert not RunFolder(tmp_path).trunk.exists()


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize(
    ("file", "precision"),
    [("output_graph.pb", INT8), ("output_graph.pb", ()), ("trunk.tflite", INT8)],
)
def test_a_killed_run_leaves_the_old_one_whole_or_refused(
    int8_run: Run,
    train_small: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    precision: tuple[str, ...],
) -> None:
    atomic = files.atomic

    def until(path: Path) -> AbstractContextManager[IO[bytes]]:
        if path.name == file:
            raise Killed
        return atomic(path)

    run = RunFolder(tmp_path / "run")
    shutil.copytree(int8_run.folder, run.folder)
    contract, trunk = run.read_contract(), run.trunk.read_bytes()
    monkeypatch.setattr(files, "atomic", until)
    with pytest.raises(Killed):
        train_small(run.folder, *precision, "--learning-rate", 0.02)
    if file == "output_graph.pb":
        assert run.read_contract() == contract
        assert run.read_trunk(contract) == trunk
    else:
        with pytest.raises(BadData, match="not the graph that"):
            run.read_contract()


def test_another_data_set_shares_the_features_of_the_trunk_that_it_names(
    int8_run: Run, tiny: Path, bottlenecks: Callable[..., Result]
) -> None:
    trunk = RunFolder(int8_run.folder).trunk
    shared = bottlenecks(tiny, "--trunk", trunk)
    assert shared.exit_code == 0, shared.output
    record = json.loads(shared.stdout)
    assert (record["photos"], record["analysed"]) == (8, 0)
    assert record["extract_precision"] == "int8"
    assert f"int8 trunk {int8_run.metrics['trunk_sha256'][:12]}: {trunk}\n" in shared.stderr
    own = json.loads(bottlenecks(tiny, *INT8).stdout)
    assert own["analysed"] == 8
    assert own["fingerprint"] != record["fingerprint"]


def test_a_trunk_of_another_network_is_refused(int8_run: Run, tiny: Path, invoke: Invoke) -> None:
    graph = int8_run.folder / "output_graph.pb"
    ends = ("--input-tensor", "input:0", "--bottleneck-tensor", "bottleneck:0", "--input-size", 32)
    scale = ("--input-mean", 128, "--input-std", 128)
    cache = ("--cache-dir", int8_run.folder / "cache", "--trunk", RunFolder(int8_run.folder).trunk)
    result = invoke("bottlenecks", tiny, "--graph", graph, *ends, *scale, *cache)
    assert result.exit_code == 3
    assert "trunk.tflite: a trunk of classic.pb, not of output_graph.pb as it is" in result.stderr
