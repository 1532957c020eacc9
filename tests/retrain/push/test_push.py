"""`push`: what it asks of a device, copies there and prints; sshd is not needed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

from deploy.bundle import write
from retrain.push.address import parse_address
from retrain.push.remote import Remote
from tests.helpers.push_fixtures import Host, names, push, write_program
from tests.helpers.runs import Invoke


@pytest.mark.parametrize("name", ["-rf", 'deeper/it\'s "$(touch pwned)`x`" $HOME; & *\n é\\'])
def test_the_bundle_arrives_and_proves_itself(
    host: Host, invoke: Invoke, run: Path, place: Path, name: str
) -> None:
    result = push(host, invoke, run, place / name, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["schema"], record["folder"]) == (1, str(place / name))
    assert (record["host"], record["previous"]) == (host.name, None)
    assert (record["selftest"]["passed"], record["selftest"]["files"]) == (True, 6)
    assert (place / name / "model.tflite").read_bytes() == (run / "model.tflite").read_bytes()
    assert (place / name / "classify.pyz").stat().st_mode & 0o111
    assert names((place / name).parent) == [Path(name).name]
    assert not (run / "bundle").exists()


def test_the_folder_is_one_of_the_home_unless_named(host: Host, invoke: Invoke, run: Path) -> None:
    options = ("--output-dir", run, "--ssh", host.ssh, "--python", sys.executable)
    for end in ("", f"; before: {host.home}/classifier.previous"):
        result = invoke("push", host.name, *options)
        assert result.exit_code == 0, result.output
        assert "PASS" in result.stdout
        assert result.stdout.splitlines()[-1] == f"In {host.home}/classifier{end}"
    assert (host.home / "classifier" / "classify.pyz").exists()


@pytest.mark.parametrize(
    ("address", "folder"), [("", "classifier"), (":birds", "birds"), (":~/it's", "it's")]
)
def test_folders_are_those_of_the_home(host: Host, address: str, folder: str) -> None:
    device = Remote(parse_address(host.name + address), None, host.ssh).describe()
    assert device.folder == f"{host.home}/{folder}"
    assert device.parent == str(host.home)


def test_the_python_is_that_of_the_environment(host: Host, place: Path) -> None:
    """Beside the folder, or in it as the bundle's README makes it; otherwise it is python3."""
    remote = Remote(parse_address(f"{host.name}:{place}/c"), None, host.ssh)
    assert remote.describe().python == "python3"
    for folder in ("c/env", "c.env"):
        (place / folder / "bin").mkdir(parents=True)
        path = place / folder / "bin" / "python"
        write_program(path, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        assert remote.describe().python == str(path)
    other = Remote(parse_address(f"{host.name}:{place}/c"), "~/own", host.ssh)
    write_program(host.home / "own", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert other.describe().python == f"{host.home}/own"


def test_an_environment_is_used_and_stays(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    (place / "c.env" / "bin").mkdir(parents=True)
    write_program(place / "c.env" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    options = ("--output-dir", run, "--ssh", host.ssh, "--json")
    result = invoke("push", f"{host.name}:{place}/c", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["python"] == f"{place}/c.env/bin/python"
    assert (place / "c" / "env").readlink() == place / "c.env"


def test_a_file_of_the_home_does_not_stand_in_for_a_module(host: Host) -> None:
    (host.home / "json.py").write_text("raise SystemExit('hijacked')")
    assert Remote(parse_address(host.name), sys.executable, host.ssh).describe().bits in (32, 64)


def test_a_python_without_packages_is_reported_before_anything_is_copied(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    venv.create(place / "bare")
    python = place / "bare" / "bin" / "python"
    result = push(host, invoke, run, place / "c", "--python", python)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "lacks click>=8.1, numpy>=1.24, pillow>=9.4, ai-edge-litert" in result.stderr
    assert f"  {python} -m pip install 'click>=8.1'" in result.stderr
    assert names(place) == ["bare"]


def test_a_device_without_python_is_wrong_use(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    result = push(host, invoke, run, place / "c", "--python", "no-such-python")
    assert result.exit_code == 2
    assert f"{host.name}: no such Python there: sudo apt install python3" in result.stderr


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
    for version in ("c", "c.previous"):
        write(run / "model.tflite", place / version)
    (place / name / "photos").mkdir()
    result = push(host, invoke, run, place / "c")
    assert result.exit_code == 2
    assert f"{place}/{name}: holds what is not of a bundle (photos): move it" in result.stderr
    assert (place / name / "photos").exists()


def test_the_service_can_start(run: Path, place: Path) -> None:
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("no systemd-analyze")
    folder = place / """Tom's "birds" [50%] $HOME \\"""
    write(run / "model.tflite", folder)
    process = subprocess.run(
        [program, "--user", "verify", folder / "classify.service"],
        env={**os.environ, "XDG_RUNTIME_DIR": tempfile.gettempdir()},  # other units use it too
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
