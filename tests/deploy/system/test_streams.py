"""The standard streams: closed, full, left by their reader, or of an encoding without a letter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.deploy_fixtures import LABELS

REPOSITORY = Path(__file__).resolve().parents[3]
CLOSED = ["2>&-", "<&-", ">&-", "<&- >&- 2>&-"]
_OPEN = """
import os, sys
for number in {closed}: os.close(number)
{held}
from deploy import Classifier
answer = Classifier.open({model!r}).answer({photo!r})
with open({out!r}, "w") as stream: stream.write(answer.predictions[0].label)
{check}
"""
_HOLD = "ours = open({out!r} + '.data', 'wb'); assert ours.fileno() == 2"
_STILL_CLOSED = """
for number in range(3):
    try: os.fstat(number)
    except OSError: continue
    raise SystemExit(9)
"""


def shell(command: str, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `command` of a shell, where `run` is `python -P -m deploy` and $1 the first argument."""
    run = f'run() {{ exec "{sys.executable}" -P -m deploy "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", run + command, "bash", *map(str, arguments)],  # noqa: S607
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("closed", CLOSED)
def test_a_label_needs_no_standard_streams(
    model: Path, drawn: dict[str, Path], closed: str
) -> None:
    result = shell(f'(run label "$1" --model "$2" --top 1 {closed})', drawn["red"], model)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("red\n") or ">&- " in closed or closed == ">&-"


def test_an_error_without_stderr_keeps_its_exit_code(model: Path) -> None:
    assert shell('(run label none.jpg --model "$1" 2>&-)', model).returncode == 3
    assert shell("(run label --nothing <&- >&- 2>&-)").returncode == 2


@pytest.mark.parametrize("closed", CLOSED)
def test_the_laptops_command_needs_no_standard_streams(model: Path, closed: str) -> None:
    code = "from retrain.cli import commands; commands()"
    result = shell(f'"$1" -P -c "$2" inspect "$3" {closed}', sys.executable, code, model)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("closed", "held", "check"),
    [
        ((0, 1, 2), "", _STILL_CLOSED),
        ((2,), _HOLD, "ours.write(b'1'); ours.flush()"),
        ((), "sys.stdin = sys.stdout = sys.stderr = None", ""),
    ],
)
def test_a_program_without_streams_opens_a_classifier(
    model: Path,
    drawn: dict[str, Path],
    tmp_path: Path,
    closed: tuple[int, ...],
    held: str,
    check: str,
) -> None:
    out = str(tmp_path / "out")
    code = _OPEN.format(
        closed=closed,
        held=held.format(out=out),
        model=str(model),
        photo=str(drawn["red"]),
        out=out,
        check=check,
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False)
    assert result.returncode == 0
    assert Path(out).read_text() == "red"
    if held.startswith("ours"):  # what the runtime prints is not in a file of the program's
        assert Path(out + ".data").read_bytes() == b"1"


def test_a_reader_that_leaves_is_no_error(model: Path, drawn: dict[str, Path]) -> None:
    command = 'set -o pipefail; for i in $(seq 400); do set -- "$@" "$1"; done; m="$2"; shift 2\n'
    command += '(run label "$@" --model "$m") | head -1'
    result = shell(command, drawn["red"], model)
    assert (result.returncode, result.stdout, result.stderr) == (141, f"{drawn['red']}\n", "")


@pytest.mark.parametrize("what", ['label "$1" --model "$2"', "--help", 'selftest "$2" --json'])
def test_a_full_disk_under_stdout_is_told(model: Path, drawn: dict[str, Path], what: str) -> None:
    result = shell(f"(run {what} >/dev/full)", drawn["red"], model)
    assert (result.returncode, result.stderr) == (
        3,
        "Error: cannot write to standard output: No space left on device: free some space there, "
        "or name a place on another disk\n",
    )


def test_a_full_disk_under_stderr_stops_nothing(model: Path, drawn: dict[str, Path]) -> None:
    result = shell('(run label none "$1" --model "$2" --top 1 2>/dev/full)', drawn["red"], model)
    assert (result.returncode, result.stdout) == (3, f"{drawn['red']}\n   93.8%  red\n")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("cp1252", b"gr\xfcn, hell \\u4e2d \\U0001f33c"),
        ("latin-1", b"gr\xfcn, hell \\u4e2d \\U0001f33c"),
        ("ascii", rb"gr\xfcn, hell \u4e2d \U0001f33c"),
        ("utf-8", "grün, hell 中 🌼".encode()),
    ],
)
def test_what_an_encoding_lacks_is_an_escape(
    model: Path, drawn: dict[str, Path], tmp_path: Path, encoding: str, shown: bytes
) -> None:
    photo = tmp_path / f"{LABELS[1]} 中 🌼"
    photo.write_bytes(drawn["red"].read_bytes())
    result = subprocess.run(
        [sys.executable, "-m", "deploy", photo, tmp_path / "none 中", "--model", model],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert result.returncode == 3
    assert result.stdout.splitlines()[0].endswith(shown)
    assert b"red" in result.stdout
    assert "none 中".encode(encoding, "backslashreplace") in result.stderr


@pytest.mark.parametrize(
    "start",
    [
        "from retrain.__main__ import main; main()",
        "import runpy; runpy.run_module('deploy', run_name='__main__')",
    ],
)
def test_ctrl_c_while_modules_are_imported_shows_no_traceback(start: str) -> None:
    code = f"""if True:
        import sys

        class Interrupting:
            def find_spec(name, path, target=None):
                if name == "deploy.cli":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, Interrupting)
        {start}
    """
    result = shell('"$1" -c "$2" --help', sys.executable, code)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
