"""The unit of a bundle starts in a folder of any name, with the options beside the folder."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.bundle_texts import SERVICE

NAMES = [
    "plain", "with space", "it's", 'dou"ble', "back\\slash", "\\x41", "50%", "%h", "dol$lar",
    "${HOME}", "żółw ☀", "a[b]c", "star*x", "semi;colon", "new\nline", "trailing ", "#hash",
]  # fmt: skip


@pytest.fixture(params=NAMES)
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a folder with the unit, and a Python that prints where and how it was called."""
    folder = tmp_path / str(request.param)
    python = folder / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\npwd\nprintf '%s|' \"$@\"\n")
    python.chmod(0o755)
    (folder / "classify.service").write_text(SERVICE, "utf-8")
    return folder


def test_systemd_finds_nothing_wrong(folder: Path) -> None:
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("no systemd-analyze")
    process = subprocess.run(
        [program, "--user", "--man=no", "verify", folder / "classify.service"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")


def start(line: str, folder: Path, runtime: Path) -> str:
    """Do what systemd does with a line of the unit that names a program; return what it prints."""
    (command,) = (x.partition("=")[2] for x in SERVICE.splitlines() if x.startswith(f"{line}="))
    words = [word.replace("$$", "$") for word in shlex.split(command) if word != "$WATCH"]
    settings = {**os.environ, "RUNTIME_DIRECTORY": str(runtime)}
    return subprocess.check_output(words, cwd=folder, env=settings, text=True)


def test_python_and_options_are_those_of_the_folder(folder: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    assert start("ExecStartPre", folder, runtime) == ""
    assert list(runtime.iterdir()) == []
    Path(f"{folder}.conf").write_text("WATCH=--threshold 0.8\n")
    assert start("ExecStartPre", folder, runtime) == ""
    assert (runtime / "options").read_text() == "WATCH=--threshold 0.8\n"
    called = start("ExecStart", folder, runtime)
    assert called == f"{folder}\nclassify.pyz|watch|--model|model.tflite|"
