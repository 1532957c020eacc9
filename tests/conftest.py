"""What several tests share: a drawn folder of photos, and the road done once for the session."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw

from retrain.backbones import Backbone
from retrain.cli import commands
from tests.helpers.deploy_fixtures import draw_photos, write_run
from tests.helpers.train_fixtures import STEPS, Run, Train

LABELS = ("circles", "stripes", "żółw ☀")
EACH = 24
EACH_IN_TINY = 4

Invoke = Callable[..., Result]


def draw(label: str, random: np.random.Generator) -> Image.Image:
    """Return a 96x96 photo of the class `label`; no pixel is black or white."""
    back, front = (tuple(int(level) for level in random.integers(40, 200, 3)) for _ in range(2))
    image = Image.new("RGB", (96, 96), back)
    pen = ImageDraw.Draw(image)
    size = int(random.integers(6, 16))
    if label == LABELS[0]:
        pen.ellipse((size, size, 95 - size, 95 - size), fill=front)
    elif label == LABELS[1]:
        for x in range(0, 96, 2 * size):
            pen.rectangle((x, 0, x + size, 95), fill=front)
    else:
        image = Image.fromarray(random.integers(40, 200, (96, 96, 3), dtype=np.uint8))
    return image


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test: a shell's background job ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _prepared_here() -> Iterator[None]:
    """Prepare backbones in this process: TensorFlow is there already."""
    from retrain.backbones import backbone

    def here(_what: str, _seconds: float, body: Callable[..., Any], *arguments: Any) -> Any:
        return body(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "run_isolated", here)
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 3 classes with 24 photos each, JPEG and PNG. Not to be changed."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for label in LABELS:
        (root / label).mkdir()
        for i in range(EACH):
            draw(label, random).save(root / label / f"{i:02}.{('jpg', 'png')[i % 2]}")
    return root


@pytest.fixture(scope="session")
def tiny(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two classes, four photos each, and of no photo. Not to be changed."""
    root = tmp_path_factory.mktemp("tiny")
    for label in LABELS[:2]:
        (root / label).mkdir()
        for path in sorted((photos / label).iterdir())[:EACH_IN_TINY]:
            shutil.copy(path, root / label)
    (root / LABELS[0] / "empty.png").touch()
    return root


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of the session: the backbone is prepared in it once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def backbone(cache_dir: Path) -> Backbone:
    """Return the real EfficientNet-Lite0, prepared."""
    from retrain import backbones

    return backbones.load("efficientnet_lite0", cache_dir)


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """Return what runs `retrain` with the arguments it gets."""
    return lambda *arguments: CliRunner().invoke(commands, [str(each) for each in arguments])


@pytest.fixture(scope="session")
def train(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory
) -> Train:
    """Return what runs `retrain train` for a few steps, in a new folder unless told another."""

    def run(*options: object, source: Path = photos, folder: Path | None = None) -> Run:
        folder = folder or tmp_path_factory.mktemp("run")
        where = ("--cache-dir", cache_dir, "--output-dir", folder)
        result = invoke("train", source, *where, "--how_many_training_steps", STEPS, *options)
        assert result.exit_code == 0, result.output
        return Run(folder, result)

    return run


@pytest.fixture(scope="session")
def base(train: Train) -> Run:
    """Return a run of a few steps with the usual settings. Not to be changed."""
    return train()


@pytest.fixture(scope="session")
def trained(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the run folder of `retrain train` on `photos`. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    options = ("--cache-dir", cache_dir, "--output-dir", folder, "--how-many-training-steps", 400)
    result = invoke("train", photos, *options)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def converted(trained: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of `trained` after `retrain convert`. Not to be changed."""
    folder = tmp_path_factory.mktemp("converted")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    result = invoke("convert", "--output-dir", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with networks of known answers. Not to be changed."""
    return write_run(tmp_path_factory.mktemp("retrained"))


@pytest.fixture(scope="session")
def model(retrained: Path) -> Path:
    """Return the int8 model of `retrained`. Not to be changed."""
    return retrained / "model.tflite"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a photo of each class of `retrained`. Not to be changed."""
    return draw_photos(tmp_path_factory.mktemp("photos"))
