"""Test retrain from Python: the README's example works, and importing costs next to nothing."""

import importlib
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retrain
from retrain import (
    BadData,
    ConvertSettings,
    HeadSettings,
    Source,
    SplitSettings,
    TrainResult,
    TrainSettings,
    WrongUse,
    convert,
    train,
)
from retrain.settings.cache import default_cache_dir


@pytest.fixture(scope="module")
def result(photos: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Return the result of a run from Python."""
    folder = tmp_path_factory.mktemp("api") / "retrained"
    head = HeadSettings(how_many_training_steps=100)
    return train(TrainSettings(Source(photos, cache_dir=cache_dir), folder, head=head))


def as_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_train_returns_what_metrics_json_holds(result: TrainResult, photos: Path) -> None:
    assert as_json(result.to_json()) == read_json(result.run.metrics)
    assert result.test.accuracy.value > 0.5
    assert result.accuracy["testing"] == result.test.accuracy
    assert result.contract.graph_sha256 == result.run.read_contract().graph_sha256
    assert sum(result.photos.values()) == sum(result.splits.values()) > 0
    assert isinstance(result.settings, TrainSettings)
    assert result.settings.source.image_dir == photos
    with pytest.raises(FrozenInstanceError):
        result.analysed = 7  # type: ignore[misc]


def test_convert_returns_what_conversion_json_holds(result: TrainResult) -> None:
    folder = result.run.folder
    conversion = convert(ConvertSettings(folder, calibration_images=12))
    assert as_json(conversion.to_json()) == read_json(folder / "conversion.json")
    assert conversion.passed
    assert conversion.calibration_images == 12
    assert conversion.graph_sha256 == result.contract.graph_sha256
    assert (folder / "model.tflite").stat().st_size == conversion.model_bytes


def test_a_folder_is_all_that_must_be_said() -> None:
    config = TrainSettings(Source(Path("photos")))
    assert config.source.cache_dir == default_cache_dir()
    assert config.source.bottlenecks == default_cache_dir() / "bottlenecks"
    assert config.output_dir == ConvertSettings().output_dir == Path("retrained")
    assert (config.head, config.split) == (HeadSettings(), SplitSettings())
    assert not config.distortion.active


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    source = Source(Path("photos"))
    for make, name in (
        (lambda: TrainSettings(source, test_batch_size=0), "test_batch_size"),
        (lambda: HeadSettings(validation_batch_size=0), "validation_batch_size"),
        (lambda: HeadSettings(learning_rate=float("nan")), "learning_rate"),
        (lambda: HeadSettings(weight_decay=-1), "weight_decay"),
        (lambda: SplitSettings(testing_percentage=60, validation_percentage=40), "testing_per"),
        (lambda: retrain.Distortion(random_crop=101), "random_crop"),
        (lambda: Source(Path("photos"), input_mean=128), "input_mean"),
        (lambda: TrainSettings(source, Path("photos/run")), "output_dir"),
        (lambda: TrainSettings(source, final_tensor_name="logits"), "final_tensor_name"),
        (lambda: retrain.AdoptSettings(source, Path("labels.txt")), "graph"),
    ):
        with pytest.raises(WrongUse, match=f"`{name}") as error:
            make()
        assert "--" not in str(error.value)


def test_errors_can_be_caught(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no such folder"):
        train(TrainSettings(Source(tmp_path / "none", cache_dir=tmp_path), tmp_path / "run"))
    with pytest.raises(BadData, match="run `retrain train DIR --output-dir "):
        convert(ConvertSettings(tmp_path))


@pytest.mark.parametrize("name", retrain._MODULES)
def test_a_public_name_is_the_one_of_its_module(name: str) -> None:
    module = importlib.import_module(retrain._MODULES[name])
    value = getattr(retrain, name)
    assert value is getattr(module, name)
    assert (value.__module__, value.__name__) == (module.__name__, name)
    assert value.__doc__


@pytest.mark.parametrize("package", ["retrain", "deploy"])
def test_packages_say_that_they_are_typed(package: str) -> None:
    module = importlib.import_module(package)
    assert Path(str(module.__file__)).with_name("py.typed").is_file()


def test_a_name_that_is_not_there_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from 'retrain'"):
        from retrain import nonsense  # noqa: F401
    assert not hasattr(retrain, "nonsense")


def test_the_package_alone_loads_next_to_nothing() -> None:
    code = "import sys, retrain; print(retrain.__version__); print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    version, modules = process.stdout.splitlines()
    assert version == retrain.__version__
    loaded = {name.split(".")[0] for name in modules.split()}
    assert "retrain" in loaded
    assert loaded.isdisjoint({np.__name__, "tensorflow", "PIL", "pyarrow", "click", "deploy"})
