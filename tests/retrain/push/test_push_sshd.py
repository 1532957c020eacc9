"""`push` over a real sshd: quoting, killed laptops and Ctrl-C, which no stand-in proves."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.helpers.push_fixtures import Host, names, push, slow_ssh, start_push, wait_until
from tests.helpers.runs import Invoke


@pytest.mark.parametrize("name", ["-rf", 'deeper/it\'s "$(touch pwned)`x`" $HOME; & *\n é\\'])
def test_the_bundle_arrives_and_proves_itself(
    sshd: Host, invoke: Invoke, run: Path, place: Path, name: str
) -> None:
    result = push(sshd, invoke, run, place / name, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["folder"], record["selftest"]["passed"]) == (str(place / name), True)
    assert (place / name / "model.tflite").read_bytes() == (run / "model.tflite").read_bytes()
    assert names((place / name).parent) == [Path(name).name]


def test_a_laptop_that_is_killed_leaves_nothing(
    sshd: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    process = start_push(sshd, run, place / "c", slow_ssh(sshd, tmp_path, "sleep 60"))
    result = push(sshd, invoke, run, place / "c")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert result.exit_code == 3
    assert "nothing is changed: another push is under way there" in result.stderr
    wait_until(lambda: names(place) == [])
    assert push(sshd, invoke, run, place / "c").exit_code == 0


def test_ctrl_c_leaves_nothing_half(sshd: Host, run: Path, place: Path, tmp_path: Path) -> None:
    process = start_push(sshd, run, place / "c", slow_ssh(sshd, tmp_path, "sleep 60"))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(30) == 130
    wait_until(lambda: names(place) == [])
    process.communicate()
