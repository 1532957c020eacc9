"""Fixtures that tests of several folders share: a folder of photos, and runs on it."""

import gc
import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from retrain.backbones import Backbone
from retrain.cli import commands
from tests.helpers import one_process
from tests.helpers.deploy_fixtures import draw_photos, write_run
from tests.helpers.make_once import make_once, shared_folder
from tests.helpers.photos import LABELS, PER_LABEL_IN_TINY, copy_some, draw_folder
from tests.helpers.push_fixtures import SSHD_PATH
from tests.helpers.runs import FEW_CALIBRATION_IMAGES, STEPS, Invoke, Output, Run, Train

NETWORK = "efficientnet_lite0"
_NO_REPORT = {"no_report": True}
NO_REPORTS = {
    **dict.fromkeys(("train", "adopt", "convert"), _NO_REPORT),
    "bench": {"run": _NO_REPORT},
}
"""Defaults of options, by command."""
LONGEST_FILES = (
    "tests/docs/test_examples.py",
    "tests/retrain/test_ray_pool.py",
    "tests/retrain/report/test_write_report.py",
    "tests/retrain/report/test_page_in_browser.py",
    "tests/end_to_end/test_families.py",
    "tests/end_to_end/test_arm.py",
    "tests/retrain/test_isolated.py",
    "tests/retrain/backbones/test_keras_applications.py",
    "tests/docs/test_python_reference.py",
    "tests/retrain/training/test_resume.py",
    "tests/retrain/training/test_fine_tuning.py",
    "tests/retrain/training/test_train_outputs.py",
    "tests/end_to_end/test_pythons.py",
    "tests/deploy/test_image.py",
    "tests/retrain/cli/test_train_flags.py",
    "tests/retrain/backbones/surgery/test_extract_backbone.py",
    "tests/retrain/conversion/test_prove_goldens.py",
    "tests/retrain/push/test_push_sshd.py",
    "tests/end_to_end/test_road.py",
    "tests/retrain/backbones/custom/test_tflite_networks.py",
    "tests/bench/test_load_models.py",
    "tests/bench/test_cli.py",
)
"""Test files that take longest: they start first, so that no worker ends long after the others."""


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test: a shell's background job ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first; mark the tests that have to download an ssh server."""
    order = {file: place for place, file in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))
    if not shutil.which("sshd", path=SSHD_PATH):
        for item in items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            if "sshd" in {*getattr(item, "fixturenames", ())} - {*parameters}:
                item.add_marker("network")


def pytest_collection_finish() -> None:
    """Keep Python's collector from looking at tests and modules over and over: they stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_process() -> Iterator[None]:
    """Prepare backbones and convert in this process, where TensorFlow is loaded already.

    `tests/retrain/test_isolated.py` runs all of it in processes of their own, as users do.
    """
    from retrain.backbones import backbone
    from retrain.conversion import layer_errors
    from retrain.quantization import quantize

    with pytest.MonkeyPatch.context() as patch:
        for module in (backbone, quantize, layer_errors):
            patch.setattr(module, "run_isolated", one_process.call)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all worker processes of this session share."""
    return shared_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def photos(shared: Path) -> Path:
    """Return a folder of 3 classes with 24 photos each, JPEG and PNG. Not to be changed."""
    return make_once(shared / "photos", draw_folder)


@pytest.fixture(scope="session")
def tiny(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two classes, four photos each, and an empty file. Not to be changed."""
    root = tmp_path_factory.mktemp("tiny")
    copy_some(photos, root, PER_LABEL_IN_TINY, PER_LABEL_IN_TINY)
    (root / LABELS[0] / "empty.png").touch()
    return root


@pytest.fixture(scope="session")
def cache_dir(shared: Path) -> Path:
    """Return the cache of the session, with EfficientNet-Lite0 prepared in it."""

    def prepare(folder: Path) -> None:
        from retrain import backbones

        backbones.load(NETWORK, folder)

    return make_once(shared / "cache", prepare)


@pytest.fixture(scope="session")
def backbone(cache_dir: Path) -> Backbone:
    """Return the real EfficientNet-Lite0, prepared."""
    from retrain import backbones

    return backbones.load(NETWORK, cache_dir)


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """Return a function that runs `retrain` with its arguments in this process.

    No command writes a report by the way: that takes seconds, and has tests of its own.
    """
    return lambda *arguments: CliRunner().invoke(
        commands, [str(word) for word in arguments], default_map=NO_REPORTS
    )


@pytest.fixture(scope="session")
def train(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory
) -> Train:
    """Return a function that runs `retrain train` for a few steps, by default in a new folder."""

    def run(*options: object, source: Path = photos, folder: Path | None = None) -> Run:
        folder = folder or tmp_path_factory.mktemp("run")
        places = ("--cache-dir", cache_dir, "--output-dir", folder)
        result = invoke("train", source, *places, "--how_many_training_steps", STEPS, *options)
        assert result.exit_code == 0, result.output
        return Run(folder, result)

    return run


@pytest.fixture(scope="session")
def base(train: Train, shared: Path) -> Run:
    """Return a run of a few steps with the usual settings. Not to be changed."""
    output = shared / "base.json"

    def make(folder: Path) -> None:
        result = train(folder=folder).result
        output.write_text(json.dumps(asdict(Output(result.stdout, result.stderr))), "utf-8")

    folder = make_once(shared / "base", make)
    return Run(folder, Output(**json.loads(output.read_text("utf-8"))))


@pytest.fixture(scope="session")
def trained(train: Train, shared: Path) -> Path:
    """Return the run folder of `retrain train` on `photos`. Not to be changed."""
    return make_once(
        shared / "trained", lambda folder: train("--how-many-training-steps", 400, folder=folder)
    )


@pytest.fixture(scope="session")
def converted(trained: Path, invoke: Invoke, shared: Path) -> Path:
    """Return a copy of `trained` after `retrain convert`. Not to be changed."""

    def convert(folder: Path) -> None:
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        result = invoke("convert", "--output-dir", folder, *FEW_CALIBRATION_IMAGES)
        assert result.exit_code == 0, result.output

    return make_once(shared / "converted", convert)


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
