"""The program that `push` sends to a device, run in a temporary folder: no ssh, a small bundle."""

import ast
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from deploy import bundle_texts
from retrain.push import install_on_device
from tests.helpers.pages import ROOT, examples
from tests.helpers.push_fixtures import names, wait_until, write_program

PROGRAM = Path(install_on_device.__file__)
PASSES = "import sys, json; print(json.dumps({'passed': True, 'python': sys.executable}))"
FAILS = "print('{\"passed\": false}'); raise SystemExit(4)"
Start = Callable[..., subprocess.Popen[bytes]]


def archive(version: str = "1", self_test: str = PASSES) -> bytes:
    """Return a bundle as .tar.gz; `self_test` is the Python code of its self-test."""
    contents = {"classify.pyz": self_test, "model.tflite": version, "SHA256SUMS": "0  model.tflite"}
    return packed({f"bundle/{name}": text for name, text in contents.items()})


def packed(contents: dict[str, str]) -> bytes:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(text), 0o644, 1e9
            tar.addfile(member, BytesIO(text.encode()))
    return file.getvalue()


def command(folder: Path, python: object = sys.executable, limit_s: int = 60) -> list[str]:
    return [sys.executable, str(PROGRAM), "install", str(python), str(folder), str(limit_s)]


def install(folder: Path, content: bytes, **options: Any) -> dict[str, Any]:
    words = command(folder, **options)
    process = subprocess.run(words, input=content, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def refused(folder: Path, content: bytes, **options: Any) -> str:
    """Return the message of an installation that exits with an error."""
    words = command(folder, **options)
    process = subprocess.run(words, input=content, capture_output=True, check=False)
    assert (process.returncode, process.stdout) == (1, b"")
    return process.stderr.decode().strip()


def version(folder: Path) -> str:
    return (folder / "model.tflite").read_text()


@pytest.fixture
def start(place: Path) -> Start:
    """Return what starts an installation that waits for the rest of its archive."""

    def run(content: bytes = b"", **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command(place / "c", **options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin
        process.stdin.write(content)
        process.stdin.flush()
        wait_until(lambda: any(".push-" in name for name in names(place)))
        return process

    return run


def test_an_old_python_can_read_the_program() -> None:
    """It says then what Python it is; `push` says which one is needed."""
    ast.parse(PROGRAM.read_text("utf-8"), feature_version=(3, 8))
    imports = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(PROGRAM.read_text("utf-8")))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imports <= sys.stdlib_module_names


def test_the_checksums_file_is_the_bundles() -> None:
    assert install_on_device.SUMS == bundle_texts.SUMS


# A device


def test_a_device_is_described(place: Path) -> None:
    (place / "c").mkdir()
    (place / "c" / "SHA256SUMS").write_text("sums")
    (place / "c.previous").write_text("a file")
    words = ["describe", "python3", f"{place}/c", "click", "no-such-package"]
    process = subprocess.run(
        [sys.executable, str(PROGRAM), *words], stdout=subprocess.PIPE, check=True
    )
    device = json.loads(process.stdout)
    assert device["python_version"] == list(sys.version_info[:3])
    assert device["in_environment"] == (sys.prefix != sys.base_prefix)
    assert list(device["packages"]) == ["click"]
    assert device["contents"] == {
        f"{place}/c": {"names": ["SHA256SUMS"], "sums": "sums"},
        f"{place}/c.previous": {"names": ["a file"], "sums": ""},
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold back root")
def test_a_folder_of_another_user_is_noticed(place: Path) -> None:
    place.chmod(0o555)
    device = install_on_device.describe("python3", str(place / "below" / "c"), [])
    place.chmod(0o755)
    assert (device["parent"], device["parent_writable"]) == (str(place), False)


# What is installed, and what is kept


@pytest.mark.parametrize("name", ["c", "-rf", 'deeper/it\'s "$(touch pwned)`x`" $HOME; & *\n é\\'])
def test_a_bundle_is_installed(place: Path, name: str) -> None:
    folder = place / name
    result = install(folder, archive())
    assert result == {"state": "first", "selftest": {"passed": True, "python": sys.executable}}
    assert names(folder) == ["SHA256SUMS", "classify.pyz", "env", "model.tflite"]
    assert (folder / "model.tflite").stat().st_mtime == 1e9
    assert names(folder.parent) == [folder.name]


def test_an_empty_folder_is_not_kept(place: Path) -> None:
    (place / "c").mkdir()
    assert install(place / "c", archive())["state"] == "first"
    assert names(place) == ["c"]


def test_the_version_before_is_kept_and_only_that(place: Path) -> None:
    states = [install(place / "c", archive(number))["state"] for number in "123"]
    assert states == ["first", "previous", "previous"]
    assert names(place) == ["c", "c.previous"]
    assert (version(place / "c"), version(place / "c.previous")) == ("3", "2")


def test_the_commands_of_the_page_roll_back_each_time(place: Path) -> None:
    page = ROOT / "docs/how-to/push-and-roll-back.md"
    (commands,) = (example.code for example in examples(page) if "mv " in example.code)
    swap, _, _ = commands.partition("cd classifier")

    def roll_back() -> bool:
        return subprocess.run(["/bin/sh", "-c", swap], cwd=place, check=False).returncode == 0

    install(place / "classifier", archive("1"))
    for newer in "234":
        install(place / "classifier", archive(newer))
        assert roll_back()
        for _ in range(2):
            assert version(place / "classifier") == "1"
            assert version(place / "classifier.new") == newer
            assert names(place) == ["classifier", "classifier.new"]
            assert not roll_back()  # no version before is left


def test_an_environment_in_the_folder_serves_both_versions(place: Path) -> None:
    install(place / "c", archive("1"))
    (place / "c" / "env" / "bin" / "python").unlink()
    write_program(
        place / "c" / "env" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    )
    for _ in range(2):
        install(place / "c", archive("2"), python=place / "c" / "env" / "bin" / "python")
        for name in ("c", "c.previous"):
            assert (place / name / "env").readlink() == place / "c.env"
            assert (place / name / "env" / "bin" / "python").exists()
    assert names(place) == ["c", "c.env", "c.previous"]


def test_each_version_has_the_python_that_was_chosen(place: Path) -> None:
    """The service starts env/bin/python, also where there is no environment."""
    for _ in range(2):
        install(place / "it's", archive())
    assert names(place) == ["it's", "it's.previous"]
    for name in ("it's", "it's.previous"):
        code = "import sys; print(sys.executable, sys.prefix, sys.argv[1:])"
        words = [f"{place}/{name}/env/bin/python", "-c", code, "a b"]
        process = subprocess.run(words, capture_output=True, text=True, check=True)
        assert process.stdout == f"{sys.executable} {sys.prefix} ['a b']\n"


def test_what_a_loss_of_power_left_is_removed(place: Path) -> None:
    remains = ("c.push-0123456789ab", "c.push-ba9876543210.old")
    unrelated = ("c.202611251720", "cXpush-0123456789ab", "d.push-0123456789ab")
    for name in remains + unrelated:
        (place / name).mkdir(parents=True)
        (place / name / "part").touch()
    install(place / "c", archive())
    assert names(place) == sorted(("c", *unrelated))


# What goes wrong


@pytest.mark.parametrize(
    ("self_test", "record"), [(FAILS, {"passed": False}), ("raise SystemExit('no numpy')", None)]
)
def test_a_bundle_that_fails_there_does_not_go_live(
    place: Path, self_test: str, record: object
) -> None:
    install(place / "c", archive("good"))
    result = install(place / "c", archive("bad", self_test))
    assert result == {"state": "failed", "selftest": record}
    assert names(place) == ["c"]
    assert version(place / "c") == "good"


WHOLE = archive("x" * 100_000)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[:20],
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-8],
        WHOLE[:-8] + bytes(8),
        WHOLE[:40] + bytes(8) + WHOLE[48:],
        b"no gzip",
        packed({"bundle/../c/model.tflite": "x"}),
        packed({"bundle/env/bin/python": "x"}),
        packed({"model.tflite": "x"}),
    ],
    ids=range(10),  # the archives hold the time, and workers must name a test alike
)
def test_a_copy_that_is_not_whole_changes_nothing(place: Path, content: bytes) -> None:
    install(place / "c", archive("good"))
    assert refused(place / "c", content).startswith("the copy was cut off or damaged: ")
    assert names(place) == ["c"]
    assert version(place / "c") == "good"


def test_an_error_of_the_device_names_the_path(place: Path) -> None:
    (place / "file").touch()
    assert refused(place / "file" / "c", archive()).startswith(f"{place}/file")


def test_two_installations_at_once_do_not_mix(place: Path, start: Start) -> None:
    """The second is refused while the first copies; the lock ends with its process."""
    process = start(WHOLE[:1000])
    message = refused(place / "c", archive(), limit_s=1800)
    assert message == "another push is under way there: wait, 60 minutes at most"
    process.kill()
    process.communicate()
    assert install(place / "c", archive())["state"] == "first"
    assert names(place) == ["c"]


def test_a_laptop_that_lost_its_network_holds_nobody_up_for_ever(place: Path, start: Start) -> None:
    """Nothing closes the connection: the program ends by its own clock."""
    process = start(WHOLE[:1000], limit_s=1)
    process.wait(30)
    assert names(place) == []
    assert process.communicate()[1] == b"the copy takes too long\n"


def test_a_self_test_that_hangs_holds_nobody_up_for_ever(place: Path) -> None:
    install(place / "c", archive("good"))
    hangs = archive("bad", "import time; time.sleep(60)")
    assert refused(place / "c", hangs, limit_s=1) == "the self-test did not end within 1 s"
    assert names(place) == ["c"]
    assert version(place / "c") == "good"
    assert install(place / "c", archive("better"))["state"] == "previous"


def test_the_clock_of_a_copy_does_not_stop_the_self_test(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_s = []

    def self_test(*_: object) -> tuple[bool, None]:
        left_s.append(signal.alarm(0))
        return False, None

    monkeypatch.setattr(install_on_device, "_self_test", self_test)
    install_on_device.install(sys.executable, place / "c", BytesIO(archive()), 60)
    assert left_s == [0]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_while_it_copies_leaves_nothing(
    place: Path, start: Start, number: signal.Signals
) -> None:
    process = start(WHOLE[:1000])
    process.send_signal(number)
    assert process.wait(30) == 1
    process.communicate()
    assert names(place) == []


def test_who_is_stopped_in_its_self_test_leaves_nothing(place: Path, start: Start) -> None:
    process = start(archive(self_test="import time; open('begun', 'w'); time.sleep(60)"))
    assert process.stdin
    process.stdin.close()
    wait_until(lambda: list(place.glob("*/begun")))
    process.terminate()
    assert process.wait(30) == 1
    assert names(place) == []
    for stream in (process.stdout, process.stderr):
        assert stream
        stream.close()


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_swap_that_fails_gives_all_folders_their_names_back(
    place: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    for name in ("c", "c.previous", "c.push-0123456789ab"):
        (place / name).mkdir()
        (place / name / "model.tflite").write_text(name)
    rename, calls = Path.rename, iter(range(9))

    def once_broken(path: Path, target: Path) -> Path:
        if next(calls) == failing:
            raise OSError("broken")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", once_broken)
    with pytest.raises(OSError, match="broken"):
        install_on_device.swap(place / "c.push-0123456789ab", place / "c")
    assert {path.name: version(path) for path in place.iterdir()} == {
        name: name for name in ("c", "c.previous", "c.push-0123456789ab")
    }
