"""Every command and program in README and tutorials runs, and prints what is shown below it.

They run once, in the order of the tutorials, on the whole sample data set and from an empty cache.
This machine takes the Pi's part: programs named ssh and scp lead to a folder, where Python has only
a device's packages. What is not run is in `NOT_RUN`, with its reason.
"""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from retrain.cli import commands
from tests.helpers.device_packages import make_environment, write_bare_python
from tests.helpers.pages import README, ROOT, TUTORIALS, Example, examples
from tests.helpers.push_fixtures import write_program

PAGES = [*TUTORIALS, README]
EXAMPLES = [example for page in PAGES for example in examples(page)]
NOT_RUN = {
    "cd path/to/retrain": "the tests are there",
    "make ": "takes minutes; the target is looked up in the Makefile",
    "python3 -m venv": "test_the_installation_works does it, with downloads",
    "pip install": "the same",
    ". ~/retrain.env": "the same",
    "sudo ": "the device's packages are in a prepared environment",
    "ssh ": "the device's commands run in its folder without it",
    "~/classifier.env/bin/python -m pip": "the environment is prepared",
    "systemctl ": "tests/deploy/watching/test_service.py reads the unit as systemd does",
    "journalctl ": "the same",
    "env/bin/python classify.pyz watch": "there is no camera; watching photos is run",
}
RUNS_ALTHOUGH = ("env/bin/python classify.pyz watch --source",)
ENDLESS = ("tensorboard ", "env/bin/python classify.pyz watch --source ~/inbox")
HOMES = {False: "/home/ada", True: "/home/pi"}
TIMEOUT_S = 600
_SSH = """\
#!{python} -IS
import os, sys
os.setsid()
os.chdir({home!r})
os.environ.update(HOME={home!r}, PATH={path!r})
os.execvp("sh", ["sh", "-c", sys.argv[-1]])
"""

# What may differ: times, rates, the machine, versions, and sizes of program files. Percentages,
# cross entropies and probabilities may be a little different on another kind of processor.
ANY = [
    (r"^(bottlenecks|scoring the \w+|training) .* left\)\n", ""),
    (r"\(\d+/s\)", "(N/s)"),
    (r"^(seconds.*:|load|one photo|latency \w+) .*$", r"\1"),
    (r"^(board|cpu|system|packages|governor|temperature|throttling) .*$", r"\1"),
    (r"^(runtime\s+\S+) .*$", r"\1"),
    (r"Python [\d.]+ on \w+", "Python"),
    (r"^\d\d:\d\d:\d\d", "TIME"),
    (r"(\d+ frames?), [\d.]+ a second.*", r"\1"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"^ +[\d.]+ kB", "kB"),
    (r"copying [\d.]+ MB", "copying MB"),
    (r"TensorBoard [\d.]+ at http://localhost:\d+/", "TensorBoard at"),
    (r"(by [\d.]+ at most, in) \S+", r"\1 PHOTO"),
]
TOLERANCE = {"%": 3.0, "": 0.06}
_FIGURE = re.compile(r"(?<![\w.])\d+\.\d+(%?)")


@dataclass(frozen=True)
class Outcome:
    """How an example ended."""

    exit_code: int
    """Minus SIGTERM if it is endless and was ended after the last line that is shown."""
    printed: str


class Road:
    """A laptop and a device, each a folder of this machine, and what ran there."""

    def __init__(self, folder: Path) -> None:
        self.homes = {False: folder / "ada", True: folder / "pi"}
        self.places = dict(self.homes)
        for home in self.homes.values():
            home.mkdir()
        self.programs = folder / "programs"
        self.device_programs = folder / "device"
        for programs in (self.programs, self.device_programs):
            programs.mkdir()
        write_bare_python(self.device_programs / "python3")
        self._write_programs()
        self.device_python = make_environment(folder / "device.env")
        self.outcomes: dict[str, Outcome] = {}

    def _write_programs(self) -> None:
        path = f"{self.device_programs}:/usr/bin:/bin"
        home = str(self.homes[True])
        ssh = _SSH.format(python=sys.executable, home=home, path=path)
        write_program(self.programs / "ssh", ssh)
        write_program(self.programs / "scp", f'#!/bin/sh\ncp "$1" {home}\n')
        for name, module in (("retrain", "retrain"), ("tensorboard", "tensorboard.main --port 0")):
            code = f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n'
            write_program(self.programs / name, code)
        write_program(self.programs / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')

    def run(self, example: Example) -> Outcome:
        """Run what can be run of an example, as one script; the next one starts where it ends."""
        home = self.homes[example.on_device]
        lines = example.code.replace("\\\n", " ").splitlines()
        if example.language == "python":
            (self.places[False] / "example.py").write_text(example.code, "utf-8")
            lines = ["python example.py"]
        if any("-m venv --system-site-packages" in line for line in lines):
            (home / "classifier.env").symlink_to(self.device_python.parents[1])
        script = [line for line in lines if not not_run(line)]
        where = home / ".place"
        environment = {
            "HOME": str(home),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PYTHONPATH": "" if example.on_device else str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }
        code = "\n".join(["set -e", *script, f"pwd > {where}"])
        started = time.monotonic()
        command = ["bash", "-c", code]
        process = subprocess.Popen(
            command,
            cwd=self.places[example.on_device],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        with process:
            printed = _read(process, self._end_of(example, script))
        print(f"{time.monotonic() - started:5.1f} s  {example}")
        if where.exists():
            self.places[example.on_device] = Path(where.read_text().strip())
            where.unlink()
        for on_device, folder in self.homes.items():
            printed = printed.replace(str(folder), HOMES[on_device])
        outcome = Outcome(process.returncode, printed)
        self.outcomes[example.code] = outcome
        return outcome

    def _end_of(self, example: Example, script: list[str]) -> str | None:
        """Return what an endless command prints last before it is stopped."""
        if not any(line.startswith(ENDLESS) for line in script):
            return None
        assert example.output
        return example.output.splitlines()[-1].split("http")[0].split("  ")[-1]


def _read(process: "subprocess.Popen[str]", end: str | None) -> str:
    """Return what a process prints; interrupt it after a line that holds `end`."""
    assert process.stdout
    deadline = time.monotonic() + TIMEOUT_S
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if end and re.sub(r"[\d.]", "", end).strip() in re.sub(r"[\d.]", "", line):
                return "".join(lines)
            assert time.monotonic() < deadline, "".join(lines)
    finally:
        if end:
            os.killpg(process.pid, signal.SIGTERM)
    return "".join(lines)


def not_run(line: str) -> bool:
    """Whether a line is in NOT_RUN."""
    return line.startswith(tuple(NOT_RUN)) and not line.startswith(RUNS_ALTHOUGH)


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[Example, Outcome]:
    """Return what each example did; the README's that are in a tutorial too are its last ones."""
    road = Road(tmp_path_factory.mktemp("road"))
    results: dict[Example, Outcome] = {}
    for example in EXAMPLES:
        is_again = example.page == README.name and example.code in road.outcomes
        results[example] = road.outcomes[example.code] if is_again else road.run(example)
    return results


def _plain(text: str) -> str:
    for pattern, replacement in ANY:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return re.sub(r"(?<=\S) +", " ", text).strip()


def _same(shown: str, printed: str) -> bool:
    """Whether two lines are equal but for figures that may be a little different."""
    if _FIGURE.sub("0", shown) != _FIGURE.sub("0", printed):
        return False
    pairs = zip(_FIGURE.finditer(shown), _FIGURE.finditer(printed), strict=True)
    return all(
        abs(float(a[0].rstrip("%")) - float(b[0].rstrip("%"))) <= TOLERANCE[a[1]] for a, b in pairs
    )


def differences(shown: str, printed: str) -> list[str]:
    """Return the lines shown that are not printed where they should be; `...` stands for any."""
    rest = _plain(printed).splitlines()
    for i, part in enumerate(re.split(r"^\.\.\.$", _plain(shown), flags=re.MULTILINE)):
        lines = part.strip("\n").splitlines()
        if not lines:
            continue
        starts = [0] if i == 0 else range(len(rest))
        fits = [
            start
            for start in starts
            if all(
                a is not None and b is not None and _same(a, b)
                for a, b in zip_longest(lines, rest[start : start + len(lines)])
            )
        ]
        if not fits:
            return [*lines, "-- is not in --", *rest]
        rest = rest[fits[0] + len(lines) :]
    return [] if shown.rstrip().endswith("...") else [f"not shown: {line}" for line in rest]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_prints_what_is_shown(
    example: Example, outcomes: dict[Example, Outcome]
) -> None:
    outcome = outcomes[example]
    fails = "\nError: " in f"\n{example.output or ''}"
    if outcome.exit_code != -signal.SIGTERM:
        assert (outcome.exit_code != 0) == fails, outcome.printed
    if example.output is not None:
        assert differences(example.output, outcome.printed) == []


def test_differences_are_found() -> None:
    assert differences("a 85.6%\n...\nz\n", "a 85.0%\nb\nc\nz\n") == []
    assert differences("a 85.6%\n...\n", "a 85.0%\nb\nc\n") == []
    for printed in ("a 80.0%\nb\nz\n", "b\na 85.6%\nz\n", "a 85.6%\nb\n", "a 85.6%\nz\nmore\n"):
        assert differences("a 85.6%\n...\nz\n", printed)


@pytest.mark.parametrize("beginning", NOT_RUN)
def test_what_is_not_run_is_in_a_page(beginning: str) -> None:
    lines = [line for example in EXAMPLES for line in example.code.splitlines()]
    assert any(line.startswith(beginning) for line in lines)


def test_targets_of_make_exist() -> None:
    targets = re.findall(r"^make (\w+)", README.read_text("utf-8"), flags=re.MULTILINE)
    assert targets
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert not [target for target in targets if f"\n{target}:" not in makefile]


def _calls() -> list[tuple[str, str]]:
    """Return the calls of `retrain` in all pages, as (page, call)."""
    return [
        (page.relative_to(ROOT).as_posix(), line)
        for page in [README, *sorted((ROOT / "docs").rglob("*.md"))]
        for example in examples(page)
        for line in example.code.replace("\\\n", " ").splitlines()
        if line.startswith("retrain ")
    ]


@pytest.mark.parametrize(("page", "call"), _calls())
def test_a_call_in_any_page_is_one_that_the_command_takes(page: str, call: str) -> None:
    name, *words = call.split("  #")[0].split()[1:]
    context = click.Context(commands)
    command = commands.get_command(context, name)
    if name.startswith("-"):
        return
    assert command, page
    if isinstance(command, click.Group):  # `run` need not be named
        unnamed = command.commands.get("run", command)
        command = command.commands.get(words[0] if words else "", unnamed)
    options = {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    options |= {"--help", "-h"}
    typed = {word.split("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    assert typed <= options, page
    assert CliRunner().invoke(commands, [name, "--help"]).exit_code == 0


@pytest.mark.network
def test_the_installation_works(tmp_path: Path) -> None:
    """The commands of the README's installation, from a copy of the repository.

    pip installs the packages that every machine needs. uv finds a file of each of the others for
    this machine without downloading it, as pip would; make installs them.
    """
    uv = Path(sys.executable).with_name("uv")
    ask = ["git", "ls-files", "-z"]
    names = subprocess.check_output(ask, cwd=ROOT, text=True).split("\0")
    for name in filter(lambda name: name and (ROOT / name).exists(), names):
        target = tmp_path / "retrain" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    (block,) = (e.code for e in examples(README) if "pip install" in e.code)
    script = block.replace("cd path/to/retrain", "cd retrain")
    ((beginning, extras),) = re.findall(r"^(pip install )(.+)$", script, flags=re.MULTILINE)
    every = f"{uv} --no-config pip install --dry-run {extras} || pip install --dry-run {extras}"
    script = script.replace(f"{beginning}{extras}", f"{beginning}.\n{every}")
    code = f"{script}retrain --version\nretrain backbones --help"
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("PYTHONPATH", None)
    command = ["bash", "-e", "-c", code]
    process = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "\nretrain, version " in f"\n{process.stdout}"
