"""A function called in another process: its answer, and every way it may have none."""

import os
import re
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


def call_runner(function: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    with packages() as folder:
        return call("runner", function, arguments or {}, folder, **options)


def test_the_answer_is_what_the_function_returns_whatever_it_prints() -> None:
    assert call_runner("fake_runners:prints_much") == "answer"


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
        call_runner(function, arguments)


def test_no_answer_in_time_is_an_error() -> None:
    with pytest.raises(BadData, match="runner: its process gave no answer in 1 s"):
        call_runner("fake_runners:naps", {"seconds": 600}, timeout_s=1)


def test_no_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="python: not a program: name a Python"):
        call_runner("time:time", python=str(tmp_path / "python"))


def test_a_python_is_found_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    helpers = str(Path(__file__).parents[1] / "helpers")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([helpers, *sys.path]))  # no environment has it
    assert call_runner("fake_runners:prints_much", python="./python") == "answer"


def test_another_python_that_lacks_a_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    python = str(tmp_path / "python")
    remedy = "lacks no_such_module: install click, numpy, Pillow and a TFLite runtime for it"
    with pytest.raises(WrongUse, match=f"^{re.escape(python)} {remedy}"):
        call_runner("no_such_module.part:f", python=python)


def test_the_process_has_our_packages_first_and_the_threads_of_numpy() -> None:
    variables = call_runner("fake_runners:environment", threads=2)
    first, *rest = variables["PYTHONPATH"].split(os.pathsep)
    assert rest == [str(Path(__file__).parents[1] / "helpers")]
    assert (variables["OPENBLAS_NUM_THREADS"], variables["OMP_NUM_THREADS"]) == ("2", "2")
    assert not Path(first).exists()  # it lasts for the block


def test_only_code_is_copied() -> None:
    with packages() as folder:
        assert {path.name for path in folder.iterdir()} == {"bench", "deploy"}
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {".py", ".typed"}
        assert (folder / "bench" / "worker_process.py").read_bytes() == Path(
            sys.modules["bench.worker_process"].__file__ or ""
        ).read_bytes()
        assert (folder / "bench" / "experiments" / "bare.py").exists()
