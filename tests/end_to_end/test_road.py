"""Train, convert, measure and label by the command line, on a folder as users have them."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deploy.contract import Contract, read_labels
from deploy.image import open_image, to_tensor
from retrain import backbones
from retrain.tf_graph import tensorflow
from tests.helpers.bench_fixtures import FEW, make_quick
from tests.helpers.photos import LABELS
from tests.helpers.runs import FEW_CALIBRATION_IMAGES, Invoke

SHORT = ("--how_many_training_steps", 300, "--eval-step-interval", 100)
BAD = {
    "empty.png": "the file is empty",
    "text.jpg": "not a photo: its content is none of",
    "truncated.jpg": "the file is damaged: ",
}


def add_rogues(folder: Path) -> int:
    """Write what users' folders hold beside plain photos; return how many are usable."""
    disc = Image.open(folder / "00.jpg").convert("RGB")
    stream = io.BytesIO()
    disc.save(stream, "JPEG")
    (folder / "truncated.jpg").write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    (folder / "text.jpg").write_text("not a photo")
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("a note")
    grey = np.asarray(disc.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "16 bit.png")
    disc.convert("CMYK").save(folder / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    disc.save(folder / "rotated.jpg", exif=exif)
    disc.convert("P", colors=16).save(folder / "palette.png", transparency=0)
    return 4


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("user") / "photos"
    shutil.copytree(photos, root)
    assert add_rogues(root / "circles") == 4
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("road") / "retrained"


@pytest.fixture(scope="module")
def training(folder: Path, run: Path, cache_dir: Path, invoke: Invoke) -> Result:
    result = invoke("train", folder, "--cache-dir", cache_dir, "--output-dir", run, *SHORT)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def converted_run(training: Result, run: Path, invoke: Invoke) -> Path:
    """Return the run folder once every stage has been there; `bench` starts no processes."""
    assert training.exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        for command in (("convert", *FEW_CALIBRATION_IMAGES), ("bench", *FEW)):
            result = invoke(*command, "--output-dir", run)
            assert result.exit_code == 0, result.output
    return run


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.usefixtures("training")
def test_bad_photos_are_named_and_training_goes_on(run: Path, training: Result) -> None:
    refused = read_json(run / "metrics.json")["bad"]
    listed = {Path(photo["path"]).name: photo["reason"] for photo in refused}
    assert sorted(listed) == sorted(BAD)
    lines = training.stderr.splitlines()
    assert "Warning: 3 files are left out:" in lines
    for name, reason in BAD.items():
        assert listed[name].startswith(reason)
        (line,) = [line for line in lines if name in line]
        assert line.endswith(f"{name}: {listed[name]}")


@pytest.mark.usefixtures("training")
def test_odd_but_good_photos_are_used(run: Path) -> None:
    metrics = read_json(run / "metrics.json")
    assert metrics["photos"] == {"circles": 28, "stripes": 24, "żółw ☀": 24}
    assert sum(metrics["split"].values()) == 76
    assert {"16 bit.png", "cmyk.jpg", "rotated.jpg", "palette.png"} <= {
        Path(line.split('","')[0].strip('"')).name
        for line in (run / "manifest.csv").read_text("utf-8").splitlines()
    }


@pytest.mark.usefixtures("training")
def test_the_layer_is_learned_and_said_so(run: Path, training: Result) -> None:
    testing = read_json(run / "metrics.json")["accuracy"]["testing"]
    assert testing["accuracy"] > 0.8
    first, second = training.stdout.splitlines()
    figure = f"{testing['accuracy']:.1%} (N={testing['total']},"
    assert first.startswith(f"Final test accuracy = {figure}")
    assert second == f"Written to {run}: output_graph.pb, output_labels.txt, metrics.json"


@pytest.mark.usefixtures("training")
def test_metrics_tell_how_they_were_made(run: Path) -> None:
    metrics = read_json(run / "metrics.json")
    assert metrics["labels"] == list(LABELS)
    assert read_labels((run / "output_labels.txt").read_text("utf-8")) == LABELS
    assert metrics["settings"]["head"]["how_many_training_steps"] == 300
    assert metrics["graph_sha256"] == read_json(run / "contract.json")["graph_sha256"]
    assert list(metrics["seconds"]) == [
        "scan", "backbone", "bottlenecks", "train", "assess", "export",
    ]  # fmt: skip
    assert {"tensorflow", "numpy", "pillow", "retrain"} <= set(metrics["versions"])


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("side", ["train", "validation"])
def test_tensorboard_shows_the_training(run: Path, side: str) -> None:
    (folder,) = run.glob(f"summaries/*/{side}")
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    curves = {}
    for name in ("accuracy", "cross_entropy"):
        events = board.Tensors(name)
        steps = [event.step for event in events]
        # Each interval, and each of the twenty rounds of the run.
        assert steps == sorted({0, 100, 200, *range(14, 300, 15)})
        curves[name] = [float(tensorflow().make_ndarray(event.tensor_proto)) for event in events]
    assert 0 <= curves["accuracy"][0] <= curves["accuracy"][-1] <= 1
    assert curves["cross_entropy"][0] > 2 * curves["cross_entropy"][-1] > 0


@pytest.mark.usefixtures("training")
def test_the_frozen_graph_runs_in_a_plain_tensorflow_program(run: Path, folder: Path) -> None:
    v1 = tensorflow().compat.v1
    definition = v1.GraphDef.FromString((run / "output_graph.pb").read_bytes())
    spec = Contract.from_json((run / "contract.json").read_bytes()).input
    paths = [folder / label / "03.png" for label in LABELS]
    tensors = np.concatenate([to_tensor(open_image(path.read_bytes()), spec) for path in paths])
    with v1.Graph().as_default() as graph:
        v1.import_graph_def(definition, name="")
        with v1.Session(graph=graph) as session:
            scores = session.run("final_result:0", {"input:0": tensors})
    assert scores.shape == (3, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.usefixtures("training")
def test_a_second_training_analyses_nothing_and_gives_the_same_bytes(
    run: Path, folder: Path, cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    options = ("--cache-dir", cache_dir, "--output-dir", tmp_path, "--json", *SHORT)
    result = invoke("train", "--image_dir", folder, *options)
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert metrics["analysed"] == 0
    assert metrics == read_json(tmp_path / "metrics.json")
    for name in ("output_graph.pb", "contract.json", "manifest.csv", "output_labels.txt"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()


def test_the_road_leaves_its_files(converted_run: Path) -> None:
    assert {path.name for path in converted_run.iterdir()} - {".lock"} == {
        "output_graph.pb", "output_labels.txt", "metrics.json", "contract.json", "manifest.csv",
        "failed.csv", "checkpoint.npz", "summaries", "model.tflite", "labels.txt",
        "conversion.json", "bench.json", "predictions.parquet", "model_predictions.parquet",
        "README.md",
    }  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_the_model_labels_photos(
    converted_run: Path, folder: Path, invoke: Invoke, label: str
) -> None:
    photos = [folder / label / f"{i:02}.png" for i in (1, 5)]
    model = ("--model", converted_run / "model.tflite", "--labels", converted_run / "labels.txt")
    result = invoke("label", *model, "--json", *photos)
    assert result.exit_code == 0, result.output
    for photo, line in zip(photos, result.stdout.splitlines(), strict=True):
        prediction = json.loads(line)
        assert prediction["path"] == str(photo)
        assert prediction["labels"][0] == label
        assert prediction["scores"][0] > 0.5
        assert sum(prediction["scores"]) == pytest.approx(1, abs=0.02)


def test_summary_repeats_what_was_measured(converted_run: Path, invoke: Invoke) -> None:
    result = invoke("summary", "--output-dir", converted_run)
    assert result.exit_code == 0, result.output
    names = ("conversion.json", "bench.json")
    conversion, bench = (read_json(converted_run / name) for name in names)
    for name in ("graph", "model"):
        assert f"{conversion[name]['accuracy']:.1%}" in result.stdout
        assert f"{conversion['bytes'][name] / 1e6:.1f} MB" in result.stdout
    for runner in bench["runners"]:
        assert f"{runner['ms']['p50']:.2f} ms" in result.stdout
    as_json = json.loads(invoke("summary", "--output-dir", converted_run, "--json").stdout)
    assert (as_json["convert"], as_json["bench"]) == (conversion, bench)
    assert as_json["train"] == read_json(converted_run / "metrics.json")


def test_summary_refuses_figures_of_another_graph(
    converted_run: Path, tmp_path: Path, invoke: Invoke
) -> None:
    shutil.copytree(converted_run, tmp_path, dirs_exist_ok=True)
    record = read_json(tmp_path / "conversion.json")
    (tmp_path / "conversion.json").write_text(json.dumps({**record, "graph_sha256": "0" * 64}))
    result = invoke("summary", "--output-dir", tmp_path)
    assert result.exit_code == 3
    command = f"retrain convert --output-dir {tmp_path}"
    assert f"measured on another graph than the one there: run `{command}`" in result.stderr


@pytest.mark.parametrize("benched", [True, False])
def test_summary_has_no_latency_of_another_file(
    converted_run: Path, tmp_path: Path, invoke: Invoke, benched: bool
) -> None:
    """Such as that of the model that the last conversion replaced."""
    shutil.copytree(converted_run, tmp_path, dirs_exist_ok=True)
    record = read_json(tmp_path / "bench.json")
    for runner in record["runners"]:
        if runner["model"] == "model.tflite":
            runner["sha256"] = "0" * 64
    (tmp_path / "bench.json").write_text(json.dumps(record))
    if not benched:
        (tmp_path / "bench.json").unlink()
    result = invoke("summary", "--output-dir", tmp_path)
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("latency p50")]
    assert line.endswith("-")
    assert (" ms " in line) == benched
    command = f"retrain bench --output-dir {tmp_path}"
    assert f"- not measured of this file: run `{command}`" in result.stdout


@pytest.mark.parametrize(("name", "command"), [("metrics", "train DIR"), ("conversion", "convert")])
def test_summary_names_the_stage_that_is_missing(
    converted_run: Path, tmp_path: Path, invoke: Invoke, name: str, command: str
) -> None:
    shutil.copytree(converted_run, tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{name}.json").unlink()
    result = invoke("summary", "--output-dir", tmp_path)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: {tmp_path / name}.json: cannot be read")
    assert result.stderr.endswith(f"run `retrain {command} --output-dir {tmp_path}`\n")


def test_an_unknown_architecture_is_wrong_use(folder: Path, tmp_path: Path, invoke: Invoke) -> None:
    result = invoke("train", folder, "--architecture", "vgg", "--output-dir", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == f"Error: no backbone vgg: there is {', '.join(backbones.NAMES)}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "bottlenecks"])
@pytest.mark.parametrize("arguments", [(), ("a", "--image_dir", "b")])
def test_one_folder_of_photos_must_be_named(
    command: str, arguments: tuple[str, ...], invoke: Invoke
) -> None:
    result = invoke(command, *arguments)
    assert result.exit_code == 2
    assert result.stderr == f"Error: name one folder of photos: retrain {command} DIR\n"


def test_an_output_folder_below_a_file_is_one_line(
    folder: Path, tmp_path: Path, invoke: Invoke
) -> None:
    (tmp_path / "file").touch()
    output_dir = tmp_path / "file" / "run"
    result = invoke("train", folder, "--output-dir", output_dir)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: cannot make the folder {output_dir}: Not a directory: ")


def test_an_output_folder_without_permission_is_one_line(
    folder: Path, tmp_path: Path, invoke: Invoke
) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("permissions do not hold back root")
    result = invoke("train", folder, "--output-dir", tmp_path / "run")
    assert result.exit_code == 3
    assert result.stderr == f"Error: {tmp_path / 'run'}: Permission denied\n"
