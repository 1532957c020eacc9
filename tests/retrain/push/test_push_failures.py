"""A `push` that something goes wrong with: it arrives whole or not at all, and says why."""

import json
import os
import shutil
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from deploy import model_file
from deploy.goldens import Golden
from tests.helpers.deploy_fixtures import LABELS, encoded
from tests.helpers.push_fixtures import (
    Host,
    names,
    push,
    slow_ssh,
    start_push,
    wait_until,
    write_program,
)
from tests.helpers.runs import Invoke


def test_a_model_that_fails_there_does_not_go_live(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    folder = place / "it's"
    result = push(host, invoke, run, folder)
    assert result.exit_code == 0, result.output
    content = (folder / "model.tflite").read_bytes()
    file = model_file.read(run / "model.tflite")
    png = encoded(Image.new("RGB", (64, 64), (200, 60, 50)), "PNG")
    wrong = Golden(png, "0" * 64, LABELS[2], (0.0, 0.0, 1.0, 0.0))
    file = replace(file, goldens=(wrong,), tolerance=0.1)
    bad = model_file.pack(file.flatbuffer, file.contract, file.goldens, file.tolerance)
    (run / "model.tflite").write_bytes(bad)
    result = push(host, invoke, run, folder)
    assert result.exit_code == 4
    assert "FAIL: " in result.stdout
    assert "the self-test failed there, and nothing is changed" in result.stderr
    record = json.loads(push(host, invoke, run, folder, "--json").stdout)
    assert (record["selftest"]["passed"], record["previous"]) == (False, None)
    assert (folder / "model.tflite").read_bytes() == content
    assert names(place) == ["it's"]


def test_a_self_test_that_cannot_run_is_reported(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    """As where the Python that describes the device is not the one that is there a moment later."""
    program = place / "python"
    write_program(
        program,
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho no luck >&2; exit 1\n',
    )
    result = push(host, invoke, run, place / "c", "--python", program)
    assert result.exit_code == 3
    assert "nothing is changed, the self-test did not run: no luck" in result.stderr
    assert names(place) == ["python"]


def test_a_copy_that_is_cut_off_changes_nothing(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    result = push(host, invoke, run, place / "c", "--ssh", slow_ssh(host, tmp_path, "true"))
    assert result.exit_code == 3
    assert f"{host.name}: not copied, nothing is changed: the copy was cut off" in result.stderr
    assert names(place) == []


def test_a_second_push_is_refused_and_ctrl_c_leaves_nothing(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    process = start_push(host, run, place / "c", slow_ssh(host, tmp_path, "sleep 60"))
    result = push(host, invoke, run, place / "c")
    assert result.exit_code == 3
    assert "nothing is changed: another push is under way there: wait, 60 minutes" in result.stderr
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(30) == 130
    assert process.communicate()[1].endswith("Error: interrupted\n")
    wait_until(lambda: names(place) == [])


def test_a_laptop_that_is_killed_leaves_nothing(
    host: Host, run: Path, place: Path, tmp_path: Path
) -> None:
    process = start_push(host, run, place / "c", slow_ssh(host, tmp_path, "sleep 60"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: names(place) == [])


def test_what_the_shell_there_prints_at_its_start_is_no_answer(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    write_program(tmp_path / "ssh", f'#!/bin/sh\necho Welcome; exec {host.ssh} "$@"\n')
    result = push(host, invoke, run, place / "c", "--ssh", tmp_path / "ssh", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["selftest"]["passed"]


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"contents": {"c": 1}}', "Welcome"])
def test_an_answer_that_is_none_is_an_error(
    invoke: Invoke, run: Path, tmp_path: Path, answer: str
) -> None:
    write_program(tmp_path / "ssh", f"#!/bin/sh\necho '{answer}'; echo why >&2\n")
    result = invoke("push", "pi@device", "--output-dir", run, "--ssh", tmp_path / "ssh")
    assert (result.exit_code, result.stderr) == (3, "Error: pi@device: why\n")


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
