"""`push`: onto a real sshd on loopback, whatever the folder is called; what it keeps there."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

from tests.conftest import Invoke
from tests.helpers.push_fixtures import Host, host, names, place, push, run

__all__ = ["host", "place", "run"]


@pytest.mark.parametrize(
    "name", ["plain", "-rf", 'deeper/it\'s "$(touch pwned)`x`" $HOME; & *\n é\\']
)
def test_the_bundle_arrives_and_proves_itself(
    host: Host, invoke: Invoke, run: Path, place: Path, name: str
) -> None:
    result = push(host, invoke, run, place / name, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["schema"], told["folder"], told["previous"]) == (1, str(place / name), None)
    assert (told["selftest"]["passed"], told["selftest"]["files"]) == (True, 6)
    assert (place / name / "model.tflite").read_bytes() == (run / "model.tflite").read_bytes()
    assert names((place / name).parent) == [Path(name).name]
    assert not (run / "bundle").exists()


@pytest.mark.parametrize("name", ["", ":birds", ":~/it's here"])
def test_folders_are_those_of_the_home(host: Host, invoke: Invoke, run: Path, name: str) -> None:
    options = ("--output-dir", run, "--ssh", host.ssh, "--python", sys.executable)
    result = invoke("push", host.name + name, *options)
    assert result.exit_code == 0, result.output
    assert "PASS" in result.stdout
    folder = host.home / (name.removeprefix(":").removeprefix("~/") or "classifier")
    assert result.stdout.splitlines()[-1] == f"In {folder}"
    assert (folder / "classify.pyz").exists()


def test_the_version_before_is_kept_and_only_that(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    folder = place / "c"
    for i in range(3):
        result = push(host, invoke, run, folder)
        assert result.exit_code == 0, result.output
        (folder / "README.md").write_text(str(i))
    assert result.stdout.splitlines()[-1] == f"In {folder}; before: {folder}.previous"
    assert names(place) == ["c", "c.previous"]
    assert (place / "c.previous" / "README.md").read_text() == "1"


def test_an_environment_is_used_and_stays(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    """In the folder, as the bundle's README makes it, or beside: it serves both versions."""
    host.python(place / "c.env")
    options = ("--output-dir", run, "--ssh", host.ssh, "--json")
    result = invoke("push", f"{host.name}:{place}/c", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["python"] == f"{place}/c.env/bin/python"
    (place / "c" / "env").unlink()
    (place / "c.env").rename(place / "c" / "env")
    for _ in range(2):
        result = invoke("push", f"{host.name}:{place}/c", *options)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["python"].startswith(f"{place}/c")
        for each in ("c", "c.previous"):
            assert (place / each / "env" / "bin" / "python").exists()
    assert names(place) == ["c", "c.env", "c.previous"]


def test_a_python_without_packages_is_told_before_anything_is_copied(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    venv.create(place / "bare")
    python = place / "bare" / "bin" / "python"
    result = push(host, invoke, run, place / "c", "--python", python)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "lacks click>=8.1, numpy>=1.24, pillow>=9.4, ai-edge-litert" in result.stderr
    assert f"  {python} -m pip install 'click>=8.1'" in result.stderr
    assert names(place) == ["bare"]


def test_a_folder_of_something_else_is_left_alone(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    (place / "thesis").write_text("chapter")
    result = push(host, invoke, run, place)
    assert result.exit_code == 2
    assert f"{place}: not empty, and not a bundle" in result.stderr
    assert names(place) == ["thesis"]


@pytest.mark.parametrize("name", ["c", "c.previous"])
def test_what_was_put_into_a_version_is_not_lost(
    host: Host, invoke: Invoke, run: Path, place: Path, name: str
) -> None:
    """Such as the snapshots of a service that still runs in the version before."""
    for _ in range(2):
        assert push(host, invoke, run, place / "c").exit_code == 0
    (place / name / "kept").mkdir()
    result = push(host, invoke, run, place / "c")
    assert result.exit_code == 2
    assert f"{place}/{name}: holds what is not of a bundle (kept): move it" in result.stderr
    assert (place / name / "kept").exists()


def test_the_service_has_the_python_that_was_chosen(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    """Of no environment that it could link: with it each version runs, and the next push too."""
    assert push(host, invoke, run, place / "it's").exit_code == 0
    options = ("--output-dir", run, "--ssh", host.ssh, "--json")
    result = invoke("push", f"{host.name}:{place}/it's", *options)
    assert result.exit_code == 0, result.output
    python = place / "it's" / "env" / "bin" / "python"
    assert json.loads(result.stdout)["python"] == str(python)
    assert names(place) == ["it's", "it's.previous"]
    for each in ("it's", "it's.previous"):
        code = "import sys; print(sys.executable, sys.prefix, sys.argv[1:])"
        command = [place / each / "env" / "bin" / "python", "-c", code, "a b"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{sys.executable} {sys.prefix} ['a b']\n"


def verified(unit: Path) -> str:
    """Return what systemd finds wrong with a user's unit."""
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("no systemd-analyze")
    done = subprocess.run(
        [program, "--user", "verify", unit],
        env={**os.environ, "XDG_RUNTIME_DIR": tempfile.gettempdir()},  # other units use it too
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr


def test_the_service_can_start(host: Host, invoke: Invoke, run: Path, place: Path) -> None:
    folder = place / """Tom's "birds" [50%] $HOME \\"""
    result = push(host, invoke, run, folder)
    assert result.exit_code == 0, result.output
    assert verified(folder / "classify.service") == ""
