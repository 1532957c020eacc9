"""retrain from Python: what the README shows works, and costs nothing until it is used."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retrain
from deploy.errors import BadData, WrongUse
from retrain import (
    ConvertSettings,
    HeadSettings,
    Source,
    SplitSettings,
    TrainSettings,
    convert,
    train,
)
from retrain.settings.training import default_cache_dir

Trained = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def trained_here(
    photos: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Return the folder of a run made from Python, and what `train` returned."""
    folder = tmp_path_factory.mktemp("api") / "retrained"
    head = HeadSettings(how_many_training_steps=100)
    return folder, train(TrainSettings(Source(photos, cache_dir=cache_dir), folder, head=head))


def as_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_train_returns_what_metrics_json_holds(trained_here: Trained) -> None:
    folder, metrics = trained_here
    assert as_json(metrics) == read_json(folder / "metrics.json")
    assert metrics["test"]["accuracy"] > 0.5
    assert metrics["settings"]["head"]["how_many_training_steps"] == 100


def test_convert_returns_what_conversion_json_holds(trained_here: Trained) -> None:
    folder, metrics = trained_here
    conversion = convert(ConvertSettings(folder, calibration_images=12))
    assert as_json(conversion.to_json()) == read_json(folder / "conversion.json")
    assert conversion.passed
    assert conversion.calibration_images == 12
    assert conversion.graph_sha256 == metrics["graph_sha256"]
    assert (folder / "model.tflite").stat().st_size == conversion.model_bytes


def test_a_folder_is_all_that_must_be_said() -> None:
    config = TrainSettings(Source(Path("photos")))
    assert config.source.cache_dir == default_cache_dir()
    assert config.source.bottlenecks == default_cache_dir() / "bottlenecks"
    assert config.output_dir == ConvertSettings().output_dir == Path("retrained")
    assert (config.head, config.split) == (HeadSettings(), SplitSettings())
    assert not config.distortion.active


def test_settings_that_make_no_sense_are_refused_when_made() -> None:
    source = Source(Path("photos"))
    for make in (
        lambda: TrainSettings(source, test_batch_size=0),
        lambda: HeadSettings(validation_batch_size=0),
        lambda: HeadSettings(learning_rate=float("nan")),
        lambda: SplitSettings(testing_percentage=60, validation_percentage=40),
        lambda: retrain.Distortion(random_crop=101),
    ):
        with pytest.raises(WrongUse):
            make()


def test_errors_can_be_caught(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no such folder"):
        train(TrainSettings(Source(tmp_path / "none", cache_dir=tmp_path), tmp_path / "run"))
    with pytest.raises(BadData, match="run `retrain train` first"):
        convert(ConvertSettings(tmp_path))


@pytest.mark.parametrize("name", retrain._HOMES)
def test_a_public_name_is_the_one_of_its_module(name: str) -> None:
    home = importlib.import_module(f"retrain.{retrain._HOMES[name]}")
    found = getattr(retrain, name)
    assert found is getattr(home, name)
    assert (found.__module__, found.__name__) == (home.__name__, name)
    assert found.__doc__


def test_a_name_that_is_not_there_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from 'retrain'"):
        from retrain import nonsense  # noqa: F401
    assert not hasattr(retrain, "nonsense")


def test_the_package_alone_loads_next_to_nothing() -> None:
    code = "import sys, retrain; print(retrain.__version__); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert version == retrain.__version__
    loaded = {name.split(".")[0] for name in modules.split()}
    assert "retrain" in loaded
    assert loaded.isdisjoint({np.__name__, "tensorflow", "PIL", "pyarrow", "click", "deploy"})
