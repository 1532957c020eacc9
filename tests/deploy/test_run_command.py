"""A command in a message names the run that the message is about, and can be copied."""

import shlex
from pathlib import Path

import pytest

from deploy.run_command import run_command
from retrain.settings.conversion import ConvertSettings
from retrain.settings.training import TrainSettings


@pytest.mark.parametrize("folder", ["runs/a", "my run's", "/srv/run"])
def test_the_folder_is_named_so_that_a_shell_reads_it(folder: str) -> None:
    words = shlex.split(run_command(Path(folder), "convert"))
    assert words == ["retrain", "convert", "--output-dir", folder]


@pytest.mark.parametrize("folder", [TrainSettings.output_dir, ConvertSettings.output_dir])
def test_the_default_folder_need_not_be_named(folder: Path) -> None:
    assert run_command(folder, "train", "DIR") == "retrain train DIR"
