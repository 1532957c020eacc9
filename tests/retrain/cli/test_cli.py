"""The commands of the device, and how every command exits."""

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from deploy import cli
from deploy.errors import BadData, GateFailed, MissingPackage, RetrainError, WrongUse

# The command that need not be named


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.commands, [str(argument) for argument in arguments])


def test_photos_without_a_command_are_labelled(model: Path, drawn: dict[str, Path]) -> None:
    arguments = (drawn["red"], "--model", model, "--top", 1)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "red" in result.stdout.splitlines()[1]
    assert invoke("label", *arguments).stdout == result.stdout
    options_first = invoke("--top", 1, "--model", model, drawn["red"])
    assert options_first.stdout == result.stdout


@pytest.mark.parametrize("name", sorted(cli.commands.commands))
def test_a_photo_may_have_the_name_of_a_command(
    model: Path, drawn: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(drawn["red"].read_bytes())
    result = invoke(f"./{name}", "--model", model)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"./{name}"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_commands(option: str) -> None:
    result = invoke(option)
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in cli.commands.commands)


# How every command ends


def run_command(action: Callable[[], object]) -> Result:
    """Return the result of a group whose only command does `action`."""
    group = cli.Commands("group")
    group.add_command(click.Command("do", callback=action))
    return CliRunner().invoke(group, ["do"])


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_a_command_that_returns_is_done() -> None:
    assert run_command(lambda: click.echo("fine")).exit_code == 0
    assert run_command(lambda: "a value").exit_code == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [(RetrainError, 1), (WrongUse, 2), (MissingPackage, 2), (BadData, 3), (GateFailed, 4)],
)
def test_each_error_has_its_exit_code(kind: type[RetrainError], code: int) -> None:
    result = run_command(raising(kind("x: what, where, remedy")))
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == "Error: x: what, where, remedy\n"


def test_a_setting_in_a_message_is_shown_as_its_option() -> None:
    group, inner = cli.Commands("group"), cli.Commands("inner")
    error = BadData(
        "`learning_rate` 0: must be above 0", "or change `seconds`, `image_dir`, `other`"
    )
    parameters = [
        click.Option(["--learning-rate"], expose_value=False),
        click.Option(["--time-limit", "seconds"], expose_value=False),
        click.Argument(["image_dir"], metavar="DIR", required=False, expose_value=False),
    ]
    inner.add_command(click.Command("do", callback=raising(error), params=parameters))
    group.add_command(inner)
    result = CliRunner().invoke(group, ["inner", "do"])
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        "Error: --learning-rate 0: must be above 0",
        "or change --time-limit, DIR, `other`",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_exits_with_130(error: BaseException) -> None:
    result = run_command(raising(error))
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.strip() == "Error: interrupted"


@pytest.mark.parametrize("call", [Path.read_bytes, os.listdir])
def test_an_os_error_names_the_path(tmp_path: Path, call: Callable[[Path], object]) -> None:
    path = tmp_path / "none"
    result = run_command(lambda: call(path))
    expected = f"Error: cannot read {path}: No such file or directory: check the name\n"
    assert (result.exit_code, result.stderr) == (3, expected)


def test_an_os_error_without_a_path_says_what_it_knows() -> None:
    assert run_command(raising(OSError("the disk is on fire"))).stderr == (
        "Error: the system refused: the disk is on fire\n"
    )


def test_no_memory_is_no_bug() -> None:
    result = run_command(raising(MemoryError()))
    assert (result.exit_code, result.stderr) == (3, "Error: out of memory\n")


def test_a_bug_is_one_line_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRAIN_DEBUG", raising=False)
    result = run_command(lambda: 1 // 0)
    assert (result.exit_code, result.stdout) == (1, "")
    first, remedy = result.stderr.splitlines()
    assert first.startswith("Error: a bug in retrain: ZeroDivisionError: ")
    assert "RETRAIN_DEBUG=1" in remedy


def test_a_bug_shows_its_traceback_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAIN_DEBUG", "1")
    result = run_command(lambda: 1 // 0)
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert "a bug in retrain: ZeroDivisionError" in result.stderr


def test_a_bug_of_ours_is_not_taken_for_a_bad_photo(
    model: Path, drawn: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "resize", raising(ZeroDivisionError("in our own code")))
    result = invoke("label", drawn["red"], "--model", model)
    assert result.exit_code == 1
    assert "a bug in retrain" in result.stderr


def test_a_path_that_a_library_wants_as_utf_8_is_no_bug() -> None:
    result = run_command(lambda: "caf\udce9".encode())
    assert (result.exit_code, result.stderr) == (
        3,
        "Error: caf\\xe9: not UTF-8, which is needed here: rename it\n",
    )
