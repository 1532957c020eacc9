"""A `push` that something goes wrong with: it arrives whole or not at all, and says why."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from deploy import model_file
from deploy.goldens import Golden
from tests.conftest import Invoke
from tests.helpers.deploy_fixtures import LABELS, encoded
from tests.helpers.push_fixtures import Host, host, names, place, push, run

__all__ = ["host", "place", "run"]


def test_a_model_that_fails_there_does_not_go_live(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    folder = place / "it's"
    result = push(host, invoke, run, folder)
    good = (folder / "model.tflite").read_bytes()
    file = model_file.read(run / "model.tflite")
    png = encoded(Image.new("RGB", (64, 64), (200, 60, 50)), "PNG")
    wrong = Golden(png, "0" * 64, LABELS[2], (0.0, 0.0, 1.0, 0.0))
    file = replace(file, goldens=(wrong,), tolerance=0.1)
    content = model_file.pack(file.flatbuffer, file.contract, file.goldens, file.tolerance)
    (run / "model.tflite").write_bytes(content)
    result = push(host, invoke, run, folder)
    assert result.exit_code == 4
    assert "FAIL: " in result.stdout
    assert "the self-test failed there, and nothing is changed" in result.stderr
    told = json.loads(push(host, invoke, run, folder, "--json").stdout)
    assert (told["selftest"]["passed"], told["previous"]) == (False, None)
    assert (folder / "model.tflite").read_bytes() == good
    assert names(place) == ["it's"]


def slow(host: Host, folder: Path, then: str) -> str:
    """Return an ssh that passes the start of what it copies, and `then`."""
    program = folder / "ssh"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *tar*) (head -c 20000; ' + then + f') | {host.ssh} "$@";;\n'
        f'*) exec {host.ssh} "$@";; esac\n'
    )
    program.chmod(0o755)
    return str(program)


def test_what_a_loss_of_power_left_is_removed(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    for name in (
        "c.push-0123456789ab",
        "c.push-ba9876543210.old",
        "c.202611251720",
        "d.push-0123456789ab",
    ):
        (place / name).mkdir(parents=True)
        (place / name / "part").touch()
    assert push(host, invoke, run, place / "c").exit_code == 0
    assert names(place) == ["c", "c.202611251720", "d.push-0123456789ab"]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold back root")
def test_a_place_that_is_not_the_users_is_told_before_anything_is_copied(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o555)
    result = push(host, invoke, run, place / "c")
    place.chmod(0o755)
    assert result.exit_code == 2
    assert f"{place}: not this user's" in result.stderr
    assert "copying" not in result.stderr


def test_a_copy_that_is_cut_off_changes_nothing(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    assert push(host, invoke, run, place / "c").exit_code == 0
    (place / "c" / "README.md").write_text("mark")
    result = push(host, invoke, run, place / "c", "--ssh", slow(host, tmp_path, "true"))
    assert result.exit_code == 3
    assert "not copied, nothing is changed" in result.stderr
    assert names(place) == ["c"]
    assert (place / "c" / "README.md").read_text() == "mark"


def stalled(
    host: Host, run: Path, place: Path, ssh: str, *program: str
) -> tuple[subprocess.Popen[bytes], float]:
    """Start a push that stops in the middle; return it when it has begun there, and a deadline."""
    words = ["push", f"{host.name}:{place}/c", "--output-dir", run, "--python", sys.executable]
    process = subprocess.Popen(
        [sys.executable, *program, *words, "--ssh", ssh],
        cwd=Path(__file__).parents[3],
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not names(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, deadline


def test_two_pushes_at_once_do_not_mix(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    """The second is refused while the first copies; the lock goes with its holder."""
    process, deadline = stalled(host, run, place, slow(host, tmp_path, "sleep 60"), "-m", "retrain")
    result = push(host, invoke, run, place / "c")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert result.exit_code == 3
    assert "nothing is changed: another push is under way there: wait, 30 minutes" in result.stderr
    while names(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert push(host, invoke, run, place / "c").exit_code == 0


def test_a_push_that_lost_its_network_holds_nobody_up_for_ever(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    """Nothing tells the device that its laptop is gone: it gives up by its own clock."""
    impatient = (
        "import retrain.push.remote as p; p._PATIENCE_S = 2; import retrain.cli as c; c.commands()"
    )
    process, deadline = stalled(host, run, place, slow(host, tmp_path, "sleep 60"), "-c", impatient)
    while push(host, invoke, run, place / "c").exit_code:
        assert time.monotonic() < deadline
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert names(place) == ["c"]


def test_what_the_shell_there_says_at_its_start_is_not_an_answer(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\necho Welcome; exec {host.ssh} "$@"\n')
    program.chmod(0o755)
    result = push(host, invoke, run, place / "c", "--ssh", program, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["selftest"]["passed"]


def test_ctrl_c_leaves_nothing_half(host: Host, run: Path, place: Path, tmp_path: Path) -> None:
    ssh = slow(host, tmp_path, "sleep 60")
    words = ["push", f"{host.name}:{place}/c", "--output-dir", run, "--ssh", ssh]
    process = subprocess.Popen(
        [sys.executable, "-m", "retrain", *words, "--python", sys.executable],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not names(place):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(30) == 130
    assert process.stderr
    assert process.stderr.read().endswith("Error: interrupted\n")
    while names(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_host_that_is_not_there_is_an_error_of_one_line(run: Path, invoke: Invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = invoke("push", "pi@127.0.0.1", "--output-dir", run, "--ssh", f"ssh -F none -p {port}")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "Error: pi@127.0.0.1: ssh: connect to host 127.0.0.1" in result.stderr


@pytest.mark.parametrize(
    ("ssh", "seconds"), [("ssh", "15"), ("ssh -o ConnectTimeout=3", "3"), ("my ssh", None)]
)
def test_ssh_is_patient_for_some_seconds_only(
    run: Path,
    invoke: Invoke,
    tmp_path: Path,
    ssh: str,
    seconds: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = shutil.which("ssh")
    for name in ("ssh", "my"):
        program = f'#!/bin/sh\n{real} -G "$@" | grep -i connecttimeout >&2\n'
        (tmp_path / name).write_text(program if name == "ssh" else '#!/bin/sh\necho "$*" >&2\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    result = invoke("push", "pi@127.0.0.1", "--output-dir", run, "--ssh", ssh)
    assert (f"connecttimeout {seconds}" in result.stderr) == bool(seconds)
    assert "ConnectTimeout" not in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--ssh", "no-such-ssh"), 2, "no-such-ssh: No such file or directory: install ssh"),
        (("--ssh", "ssh '"), 2, "No closing quotation"),
    ],
)
def test_without_an_ssh_that_runs_it_is_wrong_use(
    run: Path, invoke: Invoke, options: tuple[str, ...], code: int, reason: str
) -> None:
    result = invoke("push", "pi@127.0.0.1", "--output-dir", run, *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert reason in result.stderr


def test_a_host_cannot_be_an_option(run: Path, invoke: Invoke, tmp_path: Path) -> None:
    host = f"-oProxyCommand=touch${{IFS}}{tmp_path}/pwned"
    assert invoke("push", host, "--output-dir", run).exit_code == 2
    result = invoke("push", "--output-dir", run, "--", host)
    assert result.exit_code in (2, 3)
    assert not (tmp_path / "pwned").exists()


def test_a_rejected_model_is_not_pushed(run: Path, invoke: Invoke) -> None:
    (run / "model.tflite").rename(run / "model.rejected.tflite")
    result = invoke("push", "pi@127.0.0.1", "--output-dir", run, "--ssh", "no-such-ssh")
    assert result.exit_code == 4
    assert "the last conversion did not pass" in result.stderr
