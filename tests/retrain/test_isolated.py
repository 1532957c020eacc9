"""Functions in a process of their own: results, errors, crashes, and every user of them."""

import ast
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import retrain
from deploy.errors import BadData, GateFailed
from retrain import isolated
from retrain.isolated import run_isolated


def product(a: int, b: int) -> int:
    print("chatter")
    print("chatter", file=sys.stderr)
    return a * b


def refuse() -> None:
    raise GateFailed("not good enough")


def fail() -> None:
    raise ValueError("\n  the first line\nthe second")


def die() -> None:
    os.write(2, b"a last word\n")
    os.abort()


def test_a_result_comes_back_and_chatter_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_isolated("a product", 60, product, 6, 7) == 42
    assert capfd.readouterr() == ("", "")


def test_our_own_errors_come_through() -> None:
    with pytest.raises(GateFailed, match=r"^not good enough$"):
        run_isolated("it", 60, refuse)


def test_other_errors_are_one_line() -> None:
    with pytest.raises(BadData, match=r"^it failed: the first line$"):
        run_isolated("it", 60, fail)


def test_a_crash_is_reported_with_its_last_line() -> None:
    with pytest.raises(BadData, match=r"^it died: a last word$"):
        run_isolated("it", 60, die)


def test_a_process_that_is_killed_may_lack_memory() -> None:
    with pytest.raises(BadData, match=r"^it died: killed by the system.*memory"):
        run_isolated("it", 60, signal.raise_signal, signal.SIGKILL)


def test_no_file_of_the_current_folder_stands_in_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert run_isolated("a root", 60, math.sqrt, 49.0) == 7


def test_what_never_ends_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(BadData, match=r"^it took longer than 0\.5 s$"):
        run_isolated("it", 0.5, time.sleep, 600)
    assert time.monotonic() - start < 60


SCRIPT = """
print("started")
import math
from retrain.isolated import run_isolated
print(run_isolated("a root", 60, math.sqrt, 49.0))
"""


def test_the_callers_script_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    process = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert process.stdout.split() == ["started", "7.0"], process.stderr


# Every user


def isolated_functions() -> set[str]:
    """Return the names of the functions that the product hands to `run_isolated`."""
    root = Path(retrain.__file__).parents[1]
    paths = [
        path
        for folder in ("retrain", "bench", "deploy")
        for path in root.glob(f"{folder}/**/*.py")
        if not path.is_relative_to(root / "bench" / "experiments")
    ]
    return {
        ast.unparse(node.args[2])
        for path in paths
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] == run_isolated.__name__
    }


def test_every_user_works_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepare a backbone, measure the engines, convert and explain: as no other test does.

    A function that is isolated in a new place must be run here too.
    """
    # Imported here, because the processes of the tests above import this file.
    from retrain import ConvertSettings, convert
    from retrain.backbones.custom.custom_network import Ends
    from retrain.backbones.custom.load import load_custom
    from retrain.bottlenecks import engine
    from retrain.progress import Progress
    from tests.helpers.deploy_fixtures import write_colour_run
    from tests.helpers.own_networks import SIDE, classic, define, save

    run, functions = subprocess.run, set()

    def recording_run(command: list[Any], **options: Any) -> Any:
        if isolated._CHILD in command:
            with command[-2].open("rb") as job:
                _, (_, function, _) = pickle.load(job), pickle.load(job)  # noqa: S301 (our own)
                functions.add(function.__name__)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", recording_run)
    for module in list(sys.modules.values()):  # conftest.py replaces it for the other tests
        if module.__name__.startswith("retrain.") and hasattr(module, "run_isolated"):
            monkeypatch.setattr(module, "run_isolated", run_isolated)
    network = save(define(classic), tmp_path / "network.pb")
    ends = Ends("Mul", "pool_3/_reshape", SIDE, 128.0, 128.0)
    backbone = load_custom(network, ends, tmp_path)
    assert backbone.width == 16
    monkeypatch.setattr(engine, "MIN_PROBED_MB", 0.0)
    choice = engine.EngineChoice("auto", tmp_path / "engines")
    choice.choose(backbone, engine.MIN_PROBED_VIEWS, Progress())
    assert len(list((tmp_path / "engines").iterdir())) == 1
    folder = write_colour_run(tmp_path)
    convert(ConvertSettings(folder, explain=True, goldens=0), Progress())
    assert (folder / "model.tflite").exists()
    assert functions == isolated_functions()
