"""The bundle: complete, small, the same bytes each time, and it runs where it was copied to."""

import gzip
import hashlib
import json
import lzma
import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from deploy import bundle_texts
from deploy.bundle import contents, write
from deploy.cli import commands
from deploy.contract import Contract
from deploy.errors import BadData, WrongUse
from retrain.run_folder import RunFolder
from tests.helpers.deploy_fixtures import LABELS, draw_photos, write_run
from tests.helpers.runs import Invoke

NAMES = [
    "model.tflite",
    "labels.txt",
    "classify.pyz",
    "requirements.txt",
    "README.md",
    "classify.service",
    "SHA256SUMS",
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return write_run(tmp_path / "run")


@pytest.fixture
def bundle(run: Path) -> Path:
    return write(run / "model.tflite", run / "bundle").folder


def test_the_folder_holds_what_a_device_needs(run: Path, invoke: Invoke) -> None:
    result = invoke("bundle", "--output-dir", run, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    folder = run / "bundle"
    assert (record["schema"], record["folder"]) == (1, str(folder))
    assert record["bytes"] == {name: (folder / name).stat().st_size for name in NAMES}
    assert {path.name for path in folder.iterdir()} == set(NAMES)
    assert (folder / "model.tflite").read_bytes() == (run / "model.tflite").read_bytes()
    assert (folder / "labels.txt").read_text("utf-8").splitlines() == list(LABELS)
    assert sum(record["bytes"].values()) - record["bytes"]["model.tflite"] < 250_000
    sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert list(sums) == NAMES[:-1]
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert {path.name for path in run.iterdir() if path.name.startswith(".")} <= {".lock"}


def test_text_lists_the_files(run: Path, invoke: Invoke, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "classifier"
    result = invoke("bundle", "--output-dir", run, "--bundle-dir", place)
    assert result.exit_code == 0
    assert [line.split()[-1] for line in result.stdout.splitlines()[:-1]] == NAMES
    assert result.stdout.splitlines()[-1] == f"Written to {place} and {place}.tar.gz"
    assert {path.name for path in place.parent.iterdir()} == {"classifier", "classifier.tar.gz"}


def test_the_archive_holds_the_same(bundle: Path, tmp_path: Path) -> None:
    with tarfile.open(f"{bundle}.tar.gz") as archive:
        archive.extractall(tmp_path / "device")  # noqa: S202 (Python 3.11.2 has no filter)
    for name in NAMES:
        copy = tmp_path / "device" / "bundle" / name
        assert copy.read_bytes() == (bundle / name).read_bytes()
        assert os.access(copy, os.X_OK) == (name == "classify.pyz")
        assert (bundle / name).stat().st_mode == copy.stat().st_mode


def test_the_same_model_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    """In another folder, time zone and umask, and at another time."""
    model, here, there = run / "model.tflite", tmp_path / "a", tmp_path / "b"
    write(model, here / "bundle")
    code = (
        "import os, sys; from pathlib import Path; from deploy.bundle import write\n"
        "os.umask(0o077); write(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    time.sleep(1.1)  # a gzip header counts seconds
    subprocess.run(
        [sys.executable, "-c", code, model, there / "bundle"],
        env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    for name in ("bundle.tar.gz", *(f"bundle/{name}" for name in NAMES)):
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_a_new_bundle_takes_the_place_of_the_old(run: Path, bundle: Path) -> None:
    (bundle / "labels.txt").write_text("old")
    write(run / "model.tflite", bundle)
    assert {path.name for path in bundle.iterdir()} == set(NAMES)
    assert (bundle / "labels.txt").read_text("utf-8").splitlines() == list(LABELS)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_the_folder_it_leads_to_is_replaced(
    run: Path, tmp_path: Path, is_there: bool
) -> None:
    target, link = tmp_path / "share" / "classifier", tmp_path / "link"
    if is_there:
        write(run / "model.tflite", target)
        (target / "labels.txt").write_text("old")
    link.symlink_to(target)
    bundle = write(run / "model.tflite", link)
    assert link.readlink() == target
    assert (bundle.folder, bundle.archive) == (target, tmp_path / "share" / "classifier.tar.gz")
    assert (target / "labels.txt").read_text("utf-8").splitlines() == list(LABELS)
    assert bundle.archive.exists()


def test_a_folder_without_a_name_is_wrong_use(run: Path) -> None:
    with pytest.raises(WrongUse, match="`bundle_dir`"):
        write(run / "model.tflite", Path("/"))


def test_while_another_writes_into_the_run_no_bundle_does(
    run: Path, invoke: Invoke, tmp_path: Path
) -> None:
    with RunFolder(run).writing():
        result = invoke("bundle", "--output-dir", run)
        assert result.exit_code == 2
        assert "another retrain is writing there" in result.stderr
        assert not (run / "bundle").exists()
        elsewhere = ("--bundle-dir", tmp_path / "elsewhere")
        assert invoke("bundle", "--output-dir", run, *elsewhere).exit_code == 0


def test_a_folder_of_something_else_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "README.md").touch()
    for sums in (None, f"{64 * '0'}  README.md\n"):
        if sums:
            (tmp_path / "thesis" / "SHA256SUMS").write_text(sums)
        before = {path.name for path in (tmp_path / "thesis").iterdir()}
        with pytest.raises(WrongUse, match=r"thesis: not empty, and not a bundle: .* name another"):
            write(run / "model.tflite", tmp_path / "thesis")
        assert {path.name for path in (tmp_path / "thesis").iterdir()} == before
    (tmp_path / "empty").mkdir()
    assert write(run / "model.tflite", tmp_path / "empty").sizes


def test_what_somebody_put_into_a_bundle_is_not_lost(run: Path, bundle: Path) -> None:
    (bundle / "kept").mkdir()
    (bundle / "kept" / "shot.jpg").touch()
    with pytest.raises(WrongUse, match=r"bundle: holds what is not of a bundle \(kept\): move it"):
        write(run / "model.tflite", bundle)
    assert (bundle / "kept" / "shot.jpg").exists()


@pytest.mark.parametrize("kind", ["text", "another archive", "damaged xz", "gzip and more"])
def test_an_archive_of_something_else_is_left_alone(
    run: Path, bundle: Path, tmp_path: Path, kind: str
) -> None:
    archive = tmp_path / "thesis.tar.gz"
    if kind == "text":
        archive.write_text("chapter")
    elif kind == "damaged xz":
        content = lzma.compress(gzip.decompress(Path(f"{bundle}.tar.gz").read_bytes()))
        archive.write_bytes(content[: len(content) // 2] + bytes(9999))
    elif kind == "gzip and more":
        content = gzip.decompress(Path(f"{bundle}.tar.gz").read_bytes())
        archive.write_bytes(gzip.compress(content[: len(content) // 2]) + b"chapter")
    else:
        archive.write_bytes(Path(f"{bundle}.tar.gz").read_bytes())  # of `bundle`, not of `thesis`
    before = archive.read_bytes()
    with pytest.raises(WrongUse, match=r"thesis.tar.gz: not that of a bundle: move it away"):
        write(run / "model.tflite", tmp_path / "thesis")
    assert archive.read_bytes() == before
    assert not (tmp_path / "thesis").exists()


def test_a_killed_process_leaves_the_old_bundle(run: Path, bundle: Path) -> None:
    """Between its two renames; the next one finds the bundle, and removes what was left."""
    before = (bundle / "README.md").read_bytes()
    code = (
        "import os, sys; from pathlib import Path; from deploy import bundle\n"
        "rename = Path.rename\n"
        "Path.rename = lambda self, to: os._exit(9) if self.name == 'new' else rename(self, to)\n"
        "bundle.write(Path(sys.argv[1]), Path(sys.argv[2]), 'a new card')"
    )
    command = [sys.executable, "-c", code, str(run / "model.tflite"), str(bundle)]
    process = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert process.returncode == 9
    assert not bundle.exists()
    archive = bundle.with_name("bundle.tar.gz")
    archive.write_text("chapter")
    with pytest.raises(WrongUse, match=r"bundle.tar.gz: not that of a bundle"):
        write(run / "model.tflite", bundle)
    assert (bundle / "README.md").read_bytes() == before
    archive.unlink()
    write(run / "model.tflite", bundle)
    assert [path.name for path in run.iterdir() if path.name.startswith((".", "retrain-"))] == []


def test_a_failure_leaves_the_old_bundle(
    run: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    before = {path.name for path in run.iterdir()}
    with pytest.raises(OSError, match="no space left"):
        write(run / "model.tflite", bundle)
    assert {path.name for path in bundle.iterdir()} == set(NAMES)
    assert {path.name for path in run.iterdir()} == before


# Models that are not shipped


def test_a_missing_model_names_the_command(run: Path, invoke: Invoke) -> None:
    (run / "model.tflite").unlink()
    result = invoke("bundle", "--output-dir", run)
    assert (result.exit_code, result.stdout) == (3, "")
    command = f"retrain convert --output-dir {run}"
    assert f"model.tflite: no such file: run `{command}` first" in result.stderr


def test_a_model_of_an_older_graph_is_refused(run: Path, invoke: Invoke) -> None:
    """Who trains again and forgets to convert would ship the old one."""
    graph = (run / "output_graph.pb").read_bytes() + b"\x12\0"
    contract = Contract.from_json((run / "contract.json").read_bytes())
    contract = replace(contract, graph_sha256=hashlib.sha256(graph).hexdigest())
    (run / "output_graph.pb").write_bytes(graph)
    (run / "contract.json").write_text(contract.to_json(), "utf-8")
    for command in (("bundle",), ("push", "nobody@nowhere.invalid")):
        result = invoke(*command, "--output-dir", run)
        assert result.exit_code == 3
        assert "model.tflite: converted from another graph than " in result.stderr
        assert f"run `retrain convert --output-dir {run}` again" in result.stderr
    (run / "contract.json").unlink()  # a model alone, moved elsewhere, has no other graph
    (run / "output_graph.pb").unlink()
    assert invoke("bundle", "--output-dir", run).exit_code == 0


def test_a_rejected_model_is_refused(run: Path, invoke: Invoke) -> None:
    """Even if the model before it still stands: it is not what was converted last."""
    (run / "model.rejected.tflite").write_bytes((run / "model.tflite").read_bytes())
    result = invoke("bundle", "--output-dir", run)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "model.rejected.tflite: the last conversion did not pass" in result.stderr
    assert not (run / "bundle").exists()


def test_a_damaged_model_is_refused(run: Path) -> None:
    model = run / "model.tflite"
    model.write_bytes(b"\0" * 100 + model.read_bytes()[100:])
    with pytest.raises(BadData, match=r"damaged \(model\)"):
        write(model, run / "bundle")
    assert not (run / "bundle").exists()


# What it does where it was copied to


def classify(bundle: Path, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, bundle / "classify.pyz", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_the_program_labels_photos_by_the_model_beside_it(bundle: Path, tmp_path: Path) -> None:
    drawn = draw_photos(tmp_path)
    process = classify(bundle, *drawn.values(), "--json", folder=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    records = [json.loads(line) for line in process.stdout.splitlines()]
    assert [record["labels"][0] for record in records] == list(drawn)


def test_a_link_to_the_program_takes_the_model_beside_the_program(
    bundle: Path, tmp_path: Path
) -> None:
    link = tmp_path / "bin" / "classify"
    link.parent.mkdir()
    link.symlink_to(bundle / "classify.pyz")
    red = draw_photos(tmp_path)["red"]
    process = subprocess.run(
        [sys.executable, link, red, "--json"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout)["labels"][0] == "red"


def test_the_program_tests_itself_and_its_files(bundle: Path, tmp_path: Path) -> None:
    process = classify(bundle, "selftest", bundle / "model.tflite", "--json", folder=tmp_path)
    record = json.loads(process.stdout)
    assert (process.returncode, record["passed"], record["files"]) == (0, True, len(NAMES) - 1)
    (bundle / "labels.txt").write_text("red\n")
    process = classify(bundle, "selftest", bundle / "model.tflite", folder=tmp_path)
    assert process.returncode == 4
    assert "labels.txt: not the file that SHA256SUMS tells of" in process.stdout


def test_the_program_is_run_from_its_file_alone(bundle: Path, tmp_path: Path) -> None:
    """The modules come from the archive, and it holds all that it imports of this project."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import deploy.cli, deploy.classifier\n"
        "print({m.__file__.startswith(sys.argv[1]) for n, m in sys.modules.items() "
        "if n.split('.')[0] == 'deploy'}, 'retrain' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, bundle / "classify.pyz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.stdout == "{True} False\n"


def test_help_names_the_program(bundle: Path, tmp_path: Path) -> None:
    process = classify(bundle, "--help", folder=tmp_path)
    assert process.returncode == 0
    assert "Usage: classify.pyz " in process.stdout


# What it says


@pytest.mark.parametrize(
    ("machine", "python", "runtime"),
    [
        ("aarch64", "3.11", {"ai-edge-litert"}),
        ("aarch64", "3.13", {"ai-edge-litert"}),
        ("x86_64", "3.13", {"ai-edge-litert"}),
        ("armv7l", "3.11", {"tflite-runtime"}),
        ("armv8l", "3.11", {"tflite-runtime"}),
        ("armv7l", "3.13", set()),
        ("armv6l", "3.11", set()),
    ],
)
def test_the_requirements_pick_the_runtime(machine: str, python: str, runtime: set[str]) -> None:
    lines = bundle_texts.REQUIREMENTS.splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    place = {"platform_machine": machine, "python_version": python}
    names = {
        requirement.name
        for requirement in requirements
        if not requirement.marker or requirement.marker.evaluate(place)
    }
    assert names - {"click", "numpy", "pillow"} == runtime
    old = [requirement for requirement in requirements if str(requirement.specifier) == "<2"]
    assert old[0].marker
    assert old[0].marker.evaluate(place) == (runtime == {"tflite-runtime"})


def test_the_readme_calls_commands_and_options_that_there_are(bundle: Path) -> None:
    text = (bundle / "README.md").read_text("utf-8")
    calls = re.findall(r"^env/bin/python classify\.pyz (.*)$", text, flags=re.MULTILINE)
    assert len(calls) >= 5
    for call in calls:
        words = shlex.split(call.split("<")[0])
        name = words[0] if words[0] in commands.commands else "label"
        options = {o for p in commands.commands[name].params for o in p.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= options
        assert isinstance(commands.commands[name], click.Command)
    for name in re.findall(r"\S+\.(?:txt|service|tflite)|SHA256SUMS", text):
        assert Path(name.replace('"$PWD/', "")).name in contents(b"", LABELS)
