"""`push`: onto a real sshd on loopback, whole or not at all, whatever the folder is called."""

import getpass
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import debian
import pytest
from conftest import Invoke
from deploy_fixtures import LABELS, encoded, write_run
from PIL import Image

from deploy import metadata
from deploy.goldens import Golden


class Host:
    """An sshd of the current user's, whose home is `home`; `sshd` is the command that starts it."""

    def __init__(self, folder: Path, sshd: list[str]) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        for key in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
            subprocess.run(command, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin yes\nSetEnv HOME={self.home}\n"
        )
        tried = subprocess.run(
            [*sshd, "-t", "-f", folder / "config"], capture_output=True, text=True, check=False
        )
        if tried.returncode:
            pytest.skip(f"sshd does not run here: {tried.stderr.strip()}")
        self.process = subprocess.Popen(
            [*sshd, "-D", "-e", "-f", folder / "config"], stderr=(folder / "log").open("w")
        )
        self.name = f"{getpass.getuser()}@127.0.0.1"
        options = f"-F none -p {port} -i {folder}/user -o IdentitiesOnly=yes -o BatchMode=yes"
        options += f" -o UserKnownHostsFile={folder}/known -o StrictHostKeyChecking=accept-new"
        self.ssh = f"ssh {options} -o LogLevel=ERROR"
        deadline = time.monotonic() + 30
        while subprocess.run([*shlex.split(self.ssh), self.name, "true"], check=False).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)

    def python(self, folder: Path) -> None:
        """Put an environment with the Python of this test at `folder`."""
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (folder / "bin" / "python").chmod(0o755)


def debians_sshd(folder: Path) -> list[str]:
    """Return a command that starts the sshd of a package that is only unpacked, into `folder`.

    For root, sshd wants a folder and a user of its own: it sees them, nothing else does.
    """
    for package in debian.fetch(
        folder, debian.architecture(), "openssh-server", beside=debian.INSTALLED
    ):
        debian.unpack(package, folder / "root")
    users = Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(users)
    libraries = ":".join(map(str, (folder / "root").glob("**/lib/*-linux-gnu*")))
    start = f'LD_LIBRARY_PATH={libraries} exec {folder}/root/usr/sbin/sshd "$@"'
    if os.geteuid():
        return ["sh", "-c", start, "sshd"]
    see = (
        f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && mount --bind {folder}/passwd /etc/passwd"
    )
    return ["unshare", "--mount", "sh", "-c", f"{see} && {start}", "sshd"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    sshd = [found] if found else []
    if not sshd and os.environ.get("RETRAIN_DOWNLOADS"):
        try:
            sshd = debians_sshd(tmp_path_factory.mktemp("sshd"))
        except debian.Missing as error:
            pytest.skip(f"no sshd on this machine, and none from Debian: {error}")
    if not sshd or not shutil.which("ssh"):
        pytest.skip("no sshd on this machine: install openssh-server, or set RETRAIN_DOWNLOADS=1")
    host = Host(tmp_path_factory.mktemp("host"), sshd)
    yield host
    host.process.terminate()
    host.process.wait()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return write_run(tmp_path / "run")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return an empty folder of the device."""
    (tmp_path / "device").mkdir()
    return tmp_path / "device"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def push(host: Host, invoke: Invoke, run: Path, folder: object, *options: object) -> Any:
    words = ["--output-dir", run, "--ssh", host.ssh, "--python", sys.executable, *options]
    return invoke("push", f"{host.name}:{folder}", *words)


@pytest.mark.parametrize(
    "name", ["plain", "-rf", 'deeper/it\'s "$(touch pwned)`x`" $HOME; & *\n é\\']
)
def test_the_bundle_arrives_and_proves_itself(
    host: Host, invoke: Invoke, run: Path, place: Path, name: str
) -> None:
    result = push(host, invoke, run, place / name, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["schema"], told["folder"], told["previous"]) == (1, str(place / name), None)
    assert (told["selftest"]["passed"], told["selftest"]["files"]) == (True, 6)
    assert (place / name / "model.tflite").read_bytes() == (run / "model.tflite").read_bytes()
    assert names((place / name).parent) == [Path(name).name]
    assert not (run / "bundle").exists()


@pytest.mark.parametrize("name", ["", ":birds", ":~/it's here"])
def test_folders_are_those_of_the_home(host: Host, invoke: Invoke, run: Path, name: str) -> None:
    options = ("--output-dir", run, "--ssh", host.ssh, "--python", sys.executable)
    result = invoke("push", host.name + name, *options)
    assert result.exit_code == 0, result.output
    assert "PASS" in result.stdout
    folder = host.home / (name.removeprefix(":").removeprefix("~/") or "classifier")
    assert result.stdout.splitlines()[-1] == f"In {folder}"
    assert (folder / "classify.pyz").exists()


def test_the_version_before_is_kept_and_only_that(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    folder = place / "c"
    for i in range(3):
        result = push(host, invoke, run, folder)
        assert result.exit_code == 0, result.output
        (folder / "README.md").write_text(str(i))
    assert result.stdout.splitlines()[-1] == f"In {folder}; before: {folder}.previous"
    assert names(place) == ["c", "c.previous"]
    assert (place / "c.previous" / "README.md").read_text() == "1"


def test_an_environment_is_used_and_stays(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    """In the folder, as the bundle's README makes it, or beside: it serves both versions."""
    host.python(place / "c.env")
    options = ("--output-dir", run, "--ssh", host.ssh, "--json")
    result = invoke("push", f"{host.name}:{place}/c", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["python"] == f"{place}/c.env/bin/python"
    (place / "c" / "env").unlink()
    (place / "c.env").rename(place / "c" / "env")
    for _ in range(2):
        result = invoke("push", f"{host.name}:{place}/c", *options)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["python"].startswith(f"{place}/c")
        for each in ("c", "c.previous"):
            assert (place / each / "env" / "bin" / "python").exists()
    assert names(place) == ["c", "c.env", "c.previous"]


def test_a_python_without_packages_is_told_before_anything_is_copied(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    venv.create(place / "bare")
    python = place / "bare" / "bin" / "python"
    result = push(host, invoke, run, place / "c", "--python", python)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "lacks click>=8.1, numpy>=1.24, pillow>=9.4, ai-edge-litert" in result.stderr
    assert f"  {python} -m pip install 'click>=8.1'" in result.stderr
    assert names(place) == ["bare"]


def test_a_folder_of_something_else_is_left_alone(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    (place / "thesis").write_text("chapter")
    result = push(host, invoke, run, place)
    assert result.exit_code == 2
    assert f"{place}: not empty, and not a bundle" in result.stderr
    assert names(place) == ["thesis"]


@pytest.mark.parametrize("name", ["c", "c.previous"])
def test_what_was_put_into_a_version_is_not_lost(
    host: Host, invoke: Invoke, run: Path, place: Path, name: str
) -> None:
    """Such as the snapshots of a service that still runs in the version before."""
    for _ in range(2):
        assert push(host, invoke, run, place / "c").exit_code == 0
    (place / name / "kept").mkdir()
    result = push(host, invoke, run, place / "c")
    assert result.exit_code == 2
    assert f"{place}/{name}: holds what is not of a bundle (kept): move it" in result.stderr
    assert (place / name / "kept").exists()


def test_the_service_has_the_python_that_was_chosen(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    """Of no environment that it could link: with it each version runs, and the next push too."""
    assert push(host, invoke, run, place / "it's").exit_code == 0
    options = ("--output-dir", run, "--ssh", host.ssh, "--json")
    result = invoke("push", f"{host.name}:{place}/it's", *options)
    assert result.exit_code == 0, result.output
    python = place / "it's" / "env" / "bin" / "python"
    assert json.loads(result.stdout)["python"] == str(python)
    assert names(place) == ["it's", "it's.previous"]
    for each in ("it's", "it's.previous"):
        code = "import sys; print(sys.executable, sys.prefix, sys.argv[1:])"
        command = [place / each / "env" / "bin" / "python", "-c", code, "a b"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{sys.executable} {sys.prefix} ['a b']\n"


def verified(unit: Path) -> str:
    """Return what systemd finds wrong with a user's unit."""
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("no systemd-analyze")
    done = subprocess.run(
        [program, "--user", "verify", unit],
        env={**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr


def test_the_service_can_start(host: Host, invoke: Invoke, run: Path, place: Path) -> None:
    folder = place / "my birds"
    assert push(host, invoke, run, folder).exit_code == 0
    assert verified(folder / "classify.service") == ""
    (folder / "env" / "bin" / "python").unlink()
    assert f"{folder}/env/bin/python is not executable" in verified(folder / "classify.service")


def test_a_model_that_fails_there_does_not_go_live(
    host: Host, invoke: Invoke, run: Path, place: Path
) -> None:
    folder = place / "it's"
    result = push(host, invoke, run, folder)
    good = (folder / "model.tflite").read_bytes()
    file = metadata.read(run / "model.tflite")
    png = encoded(Image.new("RGB", (64, 64), (200, 60, 50)), "PNG")
    wrong = Golden(png, "0" * 64, LABELS[2], (0.0, 0.0, 1.0, 0.0))
    file = replace(file, goldens=(wrong,), tolerance=0.1)
    content = metadata.pack(file.flatbuffer, file.contract, file.goldens, file.tolerance)
    (run / "model.tflite").write_bytes(content)
    result = push(host, invoke, run, folder)
    assert result.exit_code == 4
    assert "FAIL: " in result.stdout
    assert "the self-test failed there, and nothing is changed" in result.stderr
    told = json.loads(push(host, invoke, run, folder, "--json").stdout)
    assert (told["selftest"]["passed"], told["previous"]) == (False, None)
    assert (folder / "model.tflite").read_bytes() == good
    assert names(place) == ["it's"]


# What goes wrong on the way


def slow(host: Host, folder: Path, then: str) -> str:
    """Return an ssh that passes the start of what it copies, and `then`."""
    program = folder / "ssh"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *tar*) (head -c 20000; ' + then + f') | {host.ssh} "$@";;\n'
        f'*) exec {host.ssh} "$@";; esac\n'
    )
    program.chmod(0o755)
    return str(program)


def test_a_copy_that_is_cut_off_changes_nothing(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    assert push(host, invoke, run, place / "c").exit_code == 0
    (place / "c" / "README.md").write_text("mark")
    result = push(host, invoke, run, place / "c", "--ssh", slow(host, tmp_path, "true"))
    assert result.exit_code == 3
    assert "not copied, nothing is changed" in result.stderr
    assert names(place) == ["c"]
    assert (place / "c" / "README.md").read_text() == "mark"


def test_two_pushes_at_once_do_not_mix(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    """The second is refused while the first copies; the lock goes with its holder."""
    words = ["push", f"{host.name}:{place}/c", "--output-dir", run, "--python", sys.executable]
    process = subprocess.Popen(
        [sys.executable, "-m", "retrain", *words, "--ssh", slow(host, tmp_path, "sleep 60")],
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not names(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    result = push(host, invoke, run, place / "c")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert result.exit_code == 3
    assert "nothing is changed: another push is under way there" in result.stderr
    while names(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert push(host, invoke, run, place / "c").exit_code == 0


def test_what_the_shell_there_says_at_its_start_is_not_an_answer(
    host: Host, invoke: Invoke, run: Path, place: Path, tmp_path: Path
) -> None:
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\necho Welcome; exec {host.ssh} "$@"\n')
    program.chmod(0o755)
    result = push(host, invoke, run, place / "c", "--ssh", program, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["selftest"]["passed"]


def test_ctrl_c_leaves_nothing_half(host: Host, run: Path, place: Path, tmp_path: Path) -> None:
    ssh = slow(host, tmp_path, "sleep 60")
    words = ["push", f"{host.name}:{place}/c", "--output-dir", run, "--ssh", ssh]
    process = subprocess.Popen(
        [sys.executable, "-m", "retrain", *words, "--python", sys.executable],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not names(place):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(30) == 130
    assert process.stderr
    assert process.stderr.read().endswith("Error: interrupted\n")
    while names(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
