"""Posts and commands: what is sent and run, and that nothing of it stops the watching."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.errors import WrongUse
from deploy.watching import actions
from deploy.watching.actions import NONE, Commands, FrameLabel, Post
from tests.helpers.watch_fixtures import Handler, Server, serving, writes

SLEEP = f"{sys.executable} -c 'import time; time.sleep(60)'"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_values_are_posted_in_order_and_all_of_them_at_the_end(server: Server) -> None:
    post = Post(server.url, pytest.fail)
    values = [{"label": f"żółw {i}"} for i in range(20)]
    for value in values:
        post(value)
    post.close()
    assert server.got == [("application/json", value) for value in values]


def test_a_failing_server_is_told_of_once_until_it_works(server: Server) -> None:
    reports: list[str] = []
    post = Post(server.url, reports.append)
    server.status = 500
    for i in range(3):
        post({"i": i})
    until(lambda: len(server.got) == 3)
    server.status = 200
    post({"i": 3})
    post({"i": 4})
    post.close()
    assert [text.removeprefix(f"post to {server.url}: ") for text in reports] == [
        "not posted: HTTP Error 500: Internal Server Error",
        "works again",
    ]


def test_problems_are_reported_by_the_callers_thread_alone(server: Server) -> None:
    """A thread of its own would lose the only sign that nobody reads the output any more."""
    reporters: list[str] = []
    post = Post(server.url, lambda _: reporters.append(threading.current_thread().name))
    server.status = 500
    post({"i": 1})
    until(lambda: server.got and post._changes.qsize())
    assert reporters == []
    post.report_changes()
    assert reporters == [threading.current_thread().name]
    server.status = 200
    post({"i": 2})
    post.close()
    assert reporters == [threading.current_thread().name] * 2


def test_without_a_server_nothing_stops() -> None:
    reports: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/"
    post = Post(url, reports.append)
    for i in range(300):
        post({"i": i})
    post.close()
    assert 1 <= len(reports) <= 2
    assert "not posted" in reports[0] or "too slow" in reports[0]


def test_a_server_that_hangs_costs_neither_time_nor_memory(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "TIMEOUT_S", 0.3)
    server.ready.clear()
    reports: list[str] = []
    post = Post(server.url, reports.append)
    for i in range(1000):
        post({"i": i})
    post.close()  # returns
    assert len(reports) == 1


def test_what_waits_is_posted_at_the_end_even_from_a_full_queue(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_MAX_WAITING_POSTS", 5)
    server.ready.clear()
    reports: list[str] = []
    post = Post(server.url, reports.append)
    post({"i": 0})
    until(lambda: not post._waiting.qsize())
    for i in range(1, 20):
        post({"i": i})
    threading.Timer(0.2, server.ready.set).start()
    post.close()
    assert [value for _, value in server.got] == [{"i": i} for i in range(6)]
    assert "too slow" in reports[0]


def test_what_is_not_posted_at_the_end_is_reported(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "TIMEOUT_S", 0.2)
    server.ready.clear()
    reports: list[str] = []
    post = Post(server.url, reports.append)
    post({"i": 0})
    post({"i": 1})
    post.close()
    assert reports == [f"post to {server.url}: too slow: some changes are not posted"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://x/y", "labels", "http://", "http://[::1/x", "http://x:y/",
        "http://x:99999/", "http://me:secret@[::1/x",
    ],
)  # fmt: skip
def test_what_is_no_url_of_http_is_wrong_use(url: str) -> None:
    with pytest.raises(WrongUse, match=r"not a URL that begins with http://") as refused:
        Post(url, pytest.fail)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://h/x y", "http://h/é", "http://h/?a=é", "http://h/\tx"])
def test_a_url_that_must_be_escaped_is_wrong_use(url: str) -> None:
    with pytest.raises(WrongUse, match="as %20, %C3%A9"):
        Post(url, pytest.fail)


def test_a_password_is_refused_and_not_printed() -> None:
    with pytest.raises(WrongUse, match="a user name or password in a URL") as refused:
        Post("http://me:secret@127.0.0.1/", pytest.fail)
    assert "secret" not in str(refused.value)


# Commands

LABELS = {label: FrameLabel(label) for label in ("cat", "cat=big", "it's")}
CAT = FrameLabel("cat")


def test_a_command_runs_without_a_shell_for_its_label(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    rules = [f"cat={writes(first)} '$HOME *' ; `x`", f"cat=big={writes(second)} a=b"]
    commands = Commands(rules, LABELS, pytest.fail)
    for label in (FrameLabel("cat=big"), FrameLabel(), FrameLabel("it's")):
        commands(label)
    commands.close()
    assert not first.exists()
    assert second.read_text() == "['a=b']\n"
    commands(CAT)
    commands.close()
    assert first.read_text() == "['$HOME *', ';', '`x`']\n"


def test_commands_do_not_pile_up_and_end_with_the_watching(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actions, "TIMEOUT_S", 0.1)
    reports: list[str] = []
    commands = Commands([f"cat={SLEEP}"], LABELS, reports.append)
    for _ in range(3):
        commands(CAT)
    (process,) = commands._running.values()
    assert process.poll() is None
    commands.close()
    assert process.returncode
    assert reports == [
        *["command of cat: not run again, the one before still runs"] * 2,
        "command of cat: it still ran, and was ended",
    ]


def test_all_commands_together_have_one_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "TIMEOUT_S", 1.0)
    reports: list[str] = []
    commands = Commands([f"{label}={SLEEP}" for label in LABELS], LABELS, reports.append)
    for label in LABELS.values():
        commands(label)
    start = time.monotonic()
    commands.close()
    assert time.monotonic() - start < 2
    assert len(reports) == len(LABELS)


def test_a_command_that_fails_is_told_of_and_runs_again(tmp_path: Path) -> None:
    reports: list[str] = []
    program = tmp_path / "alarm"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    commands = Commands([f"it's={program}"], LABELS, reports.append)
    for _ in range(2):
        commands(FrameLabel("it's"))
        commands.close()
    assert reports == ["command of it's: it ended with code 7"] * 2
    program.unlink()
    commands(FrameLabel("it's"))
    assert reports[-1] == f"command of it's: {program}: No such file or directory"


def test_what_a_command_prints_is_not_our_data(capfd: pytest.CaptureFixture[str]) -> None:
    commands = Commands(["cat=echo meow"], LABELS, pytest.fail)
    commands(CAT)
    commands.close()
    assert capfd.readouterr() == ("", "meow\n")


def test_a_class_called_none_or_unknown_is_not_the_state_of_that_name(tmp_path: Path) -> None:
    words = {NONE: FrameLabel("none"), "unknown": FrameLabel("unknown")}
    assert [label.text for label in words.values()] == list(words)
    rules = [f"{name}={writes(tmp_path / 'log')} {name}" for name in words]
    commands = Commands(rules, words, pytest.fail)
    for state in (FrameLabel(), FrameLabel(rejected=True)):
        commands(state)
    commands.close()
    assert not (tmp_path / "log").exists()
    for label in words.values():
        commands(label)
        commands.close()
    assert (tmp_path / "log").read_text() == "['none']\n['unknown']\n"


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (["dog=echo"], "of the labels"),
        (["cat"], "LABEL=COMMAND"),
        (["cat="], "no such program"),
        (["cat=no-such-program x"], "no such program"),
        (["cat=echo 'x"], "No closing quotation"),
        (["cat=echo", "cat=ls"], "cat has a command already"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused_at_once(rules: list[str], reason: str) -> None:
    with pytest.raises(WrongUse, match=reason):
        Commands(rules, LABELS, pytest.fail)
