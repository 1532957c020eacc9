"""A device to push to, and the run whose bundle is pushed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.deploy_fixtures import write_run
from tests.helpers.push_fixtures import Host, Sshd, find_sshd, local_host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return this machine as a device; no sshd is needed."""
    (tmp_path / "host").mkdir()
    return local_host(tmp_path / "host")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return this machine as a device that a real sshd reaches; skip where there is none."""
    command = find_sshd(tmp_path_factory.mktemp("sshd"))
    host = Sshd(tmp_path_factory.mktemp("host"), command)
    yield host
    host.process.terminate()
    host.process.wait()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run folder with a model that passes its self-test."""
    (tmp_path / "run").mkdir()
    return write_run(tmp_path / "run")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return an empty folder of the device."""
    (tmp_path / "device").mkdir()
    return tmp_path / "device"
