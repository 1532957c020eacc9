"""Test failures of `retrain train`: they come before the work where possible, and lose nothing."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import files
from retrain.run_folder import RunFolder
from retrain.training.fit_head import StepReport, fit_head
from tests.helpers.runs import STEPS, Invoke, Train


def test_a_copy_that_cannot_be_written_leaves_the_run_whole(
    train: Train,
    tiny: Path,
    tmp_path: Path,
    invoke: Invoke,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = train(source=tiny)
    (tmp_path / "file").touch()
    options = ("--cache-dir", cache_dir, "--output-dir", run.folder, "--seed", 7)
    steps = ("--how-many-training-steps", STEPS)
    result = invoke("train", tiny, *options, *steps, "--output-graph", tmp_path / "file" / "g.pb")
    assert result.exit_code == 3
    assert str(tmp_path / "file") in result.stderr
    assert "analysed now" not in result.stderr

    real = files.write

    def write(path: Path, content: bytes | str) -> None:
        if path.name == "g.pb":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr("retrain.training.train.files.write", write)
    result = invoke("train", tiny, *options, *steps, "--output-graph", tmp_path / "g.pb")
    assert result.exit_code == 3
    assert "g.pb: No space left on device" in result.stderr
    assert run.metrics["settings"]["head"]["seed"] == 7
    RunFolder(run.folder).read_contract()


@pytest.mark.parametrize(
    ("option", "folder"),
    [
        ("--output-dir", "retrained"),
        ("--output-dir", "."),
        ("--summaries-dir", "logs"),
        ("--bottleneck-dir", "circles"),
        ("--output-graph", "graphs"),
        ("--checkpoint-path", "linked"),
    ],
)
def test_no_output_becomes_a_class(
    option: str,
    folder: str,
    tiny: Path,
    tmp_path: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny, "photos")
    Path("photos", "linked").symlink_to(tiny.parent)
    monkeypatch.chdir("photos")
    before = sorted(tmp_path.rglob("*"))
    path = f"{folder}/file" if option in ("--output-graph", "--checkpoint-path") else folder
    result = invoke("train", ".", "--output-dir", tmp_path / "run", option, path)
    assert result.exit_code == 2
    assert f"{option} {folder}: that is in the folder of photos" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_test_photo_that_vanishes_while_training_has_no_picture(
    train: Train, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny, tmp_path / "photos")

    def vanishing(*arguments: Any) -> Iterator[StepReport]:
        for path in (tmp_path / "photos").rglob("*.*"):
            path.unlink()
        yield from fit_head(*arguments)

    monkeypatch.setattr("retrain.training.train_head.fit_head", vanishing)
    run = train(source=tmp_path / "photos")
    assert run.metrics["test"]["total"] >= 2
    assert not list(run.folder.glob("summaries/*/test/sprite.png"))


def test_a_rate_by_which_nothing_is_learned_is_an_error(
    tiny: Path, tmp_path: Path, invoke: Invoke, cache_dir: Path
) -> None:
    where = ("--cache-dir", cache_dir, "--output-dir", tmp_path / "run")
    steps = ("--how-many-training-steps", STEPS)
    result = invoke("train", tiny, *where, *steps, "--learning-rate", 1e30)
    assert result.exit_code == 3
    assert "training diverged" in result.stderr
    assert "lower --learning-rate" in result.stderr
    assert not (tmp_path / "run" / "output_graph.pb").exists()


def test_a_name_that_an_operation_of_a_published_network_has_is_refused_before_the_work(
    tiny: Path,
    tmp_path: Path,
    invoke: Invoke,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")  # fine-tuning sets it
    where = ("--cache-dir", cache_dir, "--output-dir", tmp_path / "run")
    for options in ((), ("--fine-tune",)):
        result = invoke("train", tiny, *where, "--final-tensor-name", "add_3", *options)
        assert result.exit_code == 2
        assert "--final-tensor-name add_3: the network has an operation of" in result.stderr
        assert "analysed now" not in result.stderr
