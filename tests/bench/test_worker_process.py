"""A function called in another process: its answer, and every way it may have none."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.worker_process import call, packages
from deploy.errors import BadData, GateFailed, RetrainError, WrongUse

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))


def ask(function: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    with packages() as folder:
        return call("runner", function, arguments or {}, folder, **options)


def test_the_answer_is_what_the_function_returns_whatever_it_prints() -> None:
    assert ask("fake_runners:chatters") == "answer"


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "reason"),
    [
        ("fake_runners:dies", {"code": 7}, BadData, r"runner: its process died \(exit code 7\)"),
        ("fake_runners:is_killed", {}, BadData, r"died \(SIGTERM\); is the file whole\?"),
        ("fake_runners:raises", {"text": "{x} y"}, BadData, r"runner: ValueError: \{x\} y"),
        ("fake_runners:refuses", {"text": "{x} no"}, GateFailed, r"^\{x\} no$"),
        ("no_such_module:f", {}, WrongUse, "this command needs no_such_module"),
    ],
)
def test_a_function_that_fails_is_an_error(
    function: str, arguments: dict[str, Any], kind: type[RetrainError], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        ask(function, arguments)


def test_no_answer_in_time_is_an_error() -> None:
    with pytest.raises(BadData, match="runner: its process gave no answer in 1 s"):
        ask("fake_runners:naps", {"seconds": 600}, patience_s=1)


def test_no_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="python: not a program: name a Python"):
        ask("time:time", python=str(tmp_path / "python"))


def test_a_python_is_found_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # it is in no environment
    assert ask("fake_runners:chatters", python="./python") == "answer"


def test_the_process_has_our_packages_first_and_the_threads_of_numpy() -> None:
    found = ask("fake_runners:environment", threads=2)
    first, *others = found["PYTHONPATH"].split(os.pathsep)
    assert others == [str(Path(__file__).parents[1] / "helpers")]
    assert (found["OPENBLAS_NUM_THREADS"], found["OMP_NUM_THREADS"]) == ("2", "2")
    assert not Path(first).exists()  # it was made for the block alone


def test_only_what_a_runtime_needs_is_copied() -> None:
    with packages() as folder:
        assert {each.name for each in folder.iterdir()} == {"bench", "deploy"}
        files = [each for each in folder.rglob("*") if each.is_file()]
        assert {each.suffix for each in files} == {".py"}
        assert (folder / "bench" / "runners.py").read_bytes() == Path(
            sys.modules["bench.worker_process"].__file__ or ""
        ).read_bytes()
