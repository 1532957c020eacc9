"""Classify a thousand test images of Pillow, many of them harmful, with the device's program."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import PIL
import pytest

from deploy.bundle import write
from tests.helpers.deploy_fixtures import write_run

pytestmark = pytest.mark.network
MAX_SECONDS_A_PHOTO = 10
MAX_MEMORY_MB = 1000
MAX_SECONDS = 600
# A process that starts the program and then prints its exit code and its peak memory. Linux hands
# a process's peak down through exec, so what starts the program must itself be small.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the images in the source archive of the Pillow that is installed."""
    folder = tmp_path_factory.mktemp("pillow")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    command += [f"--dest={folder}", f"pillow=={PIL.__version__}"]
    download = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"pip: {(download.stderr.strip() or 'no source archive').splitlines()[-1]}")
    with tarfile.open(archives[0]) as archive:  # by hand: Python 3.11.2 has no filter
        for member in archive:
            path = folder / member.name
            if member.isfile() and "/Tests/images/" in member.name and ".." not in path.parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content
                path.write_bytes(content.read())
    (inside,) = folder.glob("*/Tests/images")
    return inside


def test_every_file_ends_in_labels_or_in_a_reason(
    images: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    run = write_run(tmp_path)
    program = write(run / "model.tflite", tmp_path / "bundle").folder / "classify.pyz"
    files = sorted(path for path in images.rglob("*") if path.is_file())
    assert len(files) > 900
    with subprocess.Popen(
        [sys.executable, "-c", MEASURED, sys.executable, program, *files, "--json"],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        limit = threading.Timer(MAX_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        last, longest, lines = time.monotonic(), 0.0, []
        for line in process.stdout:
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            lines.append(line)
    limit.cancel()
    assert process.returncode == 0, f"killed after {MAX_SECONDS} s, after {lines[-1:]}"
    code, peak = map(int, lines.pop().split())
    peak *= 1 if sys.platform == "darwin" else 1024
    figures = {"files": len(files), "peak_mb": round(peak / 1e6), "longest_s": round(longest, 2)}
    print(figures)
    for name, value in figures.items():
        record_property(name, value)
    assert code == 3
    assert lines.pop().endswith("photos could not be classified\n")
    labelled = [json.loads(line)["path"] for line in lines if line.startswith("{")]
    refused = dict(line.split(": ", 2)[1:] for line in lines if line.startswith("Error: "))
    assert sorted([*labelled, *refused]) == [str(path) for path in files]
    assert len(labelled) + len(refused) == len(lines)  # one line a file, and no other line
    assert len(labelled) > 400
    assert not [reason for reason in refused.values() if "bug" in reason or not reason.strip()]
    assert longest < MAX_SECONDS_A_PHOTO
    assert peak < MAX_MEMORY_MB * 1e6
