"""Engines: equal features, the one asked for, and a probe that runs only where it pays, once."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from deploy.errors import BadData
from deploy.image import open_image, to_pixels
from deploy.runtime import find_runtime
from retrain.backbones import Backbone
from retrain.bottlenecks import engine
from retrain.bottlenecks.engine import Engine, EngineChoice
from retrain.bottlenecks.extract import extract
from retrain.bottlenecks.extract_shard import Decoder, compute_rows
from retrain.bottlenecks.plan_shards import Task
from retrain.data.photo_folder import scan
from retrain.progress import Progress
from retrain.settings.source import ExtractEngine
from retrain.settings.training import Distortion
from tests.helpers.runs import Invoke

Pick = Callable[..., str]


@pytest.fixture(scope="module")
def both(backbone: Backbone) -> dict[str, Engine]:
    return {"tflite": engine.tflite(backbone), "tensorflow": engine.tensorflow(backbone)}


def _stub(name: str, _: Backbone) -> Engine:
    return Engine(name, lambda: np.zeros_like, 1)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the engines that are probed from now on; TensorFlow is the faster."""
    names: list[str] = []

    def rate(_what: str, _seconds: float, body: object, name: str, _: Backbone) -> float:
        assert body is engine.measure_rate
        names.append(name)
        return {"tflite": 10.0, "tensorflow": 20.0}[name]

    monkeypatch.setattr(engine, "run_isolated", rate)
    for name in ("tflite", "tensorflow"):
        monkeypatch.setitem(engine._ENGINES, name, partial(_stub, name))
    return names


@pytest.fixture
def large(backbone: Backbone) -> Backbone:
    """Return a backbone that is not below the size of a mobile's, never run."""
    return replace(backbone, flatbuffer=bytes(int(engine.MIN_PROBED_MB * 1e6)))


@pytest.fixture
def pick(large: Backbone, tmp_path: Path) -> Pick:
    """Return what tells the name of the engine that a choice gives."""

    def name(setting: ExtractEngine = "auto", photos: int = 1000, of: Backbone = large) -> str:
        return EngineChoice(setting, tmp_path / "engines").choose(of, photos, Progress()).name

    return name


def test_both_give_equal_features(
    photos: Path, backbone: Backbone, both: dict[str, Engine]
) -> None:
    paths = sorted(photos.glob("*/*"))[::4]
    pixels = np.concatenate(
        [to_pixels(open_image(path.read_bytes()), backbone.spec) for path in paths]
    )
    lite, flow = (both[name].make()(pixels) for name in ("tflite", "tensorflow"))
    assert lite.shape == flow.shape == (len(paths), backbone.width)
    np.testing.assert_allclose(flow, lite, rtol=1e-3, atol=1e-3 * np.abs(lite).max())


def test_a_shard_has_the_same_rows_with_both(
    photos: Path, tmp_path: Path, backbone: Backbone, both: dict[str, Engine]
) -> None:
    for i, path in enumerate(sorted(photos.glob("*/*"))[:17]):
        content = path.read_bytes()
        copy = tmp_path / "photos" / "ab"[i % 2] / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.with_stem(f"{i}").write_bytes(content[: len(content) // 2] if i % 5 == 0 else content)
    scanned = scan(tmp_path / "photos").photos
    tasks = [Task(photo, [0, 1]) for photo in scanned]
    Path(scanned[3].path).unlink()
    decoder = Decoder(backbone.spec, Distortion(random_brightness=50), None)
    values: list[npt.NDArray[np.float16]] = []

    def keys_and_errors(chosen: Engine) -> list[tuple[bytes, int, str | None]]:
        rows = compute_rows(chosen.make(), chosen.batch, decoder.views(tasks, {}))
        values.append(np.stack([row.bottleneck for row in rows if row.bottleneck is not None]))
        return [(row.digest, row.view, row.error) for row in rows]

    first, second = (keys_and_errors(chosen) for chosen in both.values())
    assert first == second
    assert [digest for digest, view, _ in first if view == 0] == [
        photo.digest for i, photo in enumerate(scanned) if i != 3
    ]
    assert {bool(error) for *_, error in first} == {True, False}
    np.testing.assert_allclose(values[0], values[1], rtol=2e-3, atol=2e-3 * values[0].max())


@pytest.mark.parametrize("name", ["tflite", "tensorflow"])
def test_the_engine_that_is_asked_for_is_used(
    name: ExtractEngine,
    tiny: Path,
    tmp_path: Path,
    backbone: Backbone,
    capsys: pytest.CaptureFixture[str],
) -> None:
    choice = EngineChoice(name, tmp_path / "engines")
    scanned = scan(tiny).photos
    result = extract(scanned, backbone, choice, tmp_path / "cache", Progress())
    assert result.analysed == 8
    assert f"engine {name}: as asked\n" in capsys.readouterr().err
    other = EngineChoice("tflite" if name == "tensorflow" else "tensorflow", tmp_path / "engines")
    assert extract(scanned, backbone, other, tmp_path / "cache", Progress()).analysed == 0
    assert "engine" not in capsys.readouterr().err
    assert not (tmp_path / "engines").exists()


def test_the_command_hands_the_engine_on(
    tiny: Path, cache_dir: Path, tmp_path: Path, invoke: Invoke
) -> None:
    where = ("--cache-dir", cache_dir, "--bottleneck-dir", tmp_path)
    result = invoke("bottlenecks", tiny, *where, "--extract-engine", "tensorflow")
    assert result.exit_code == 0, result.output
    assert "engine tensorflow: as asked\n" in result.stderr
    assert invoke("bottlenecks", tiny, "--extract-engine", "abacus").exit_code == 2


def test_a_probe_is_remembered(pick: Pick, probed: list[str]) -> None:
    assert pick() == "tensorflow"
    assert probed == ["tflite", "tensorflow"]
    assert pick(photos=10_000) == "tensorflow"
    assert len(probed) == 2


def test_a_probe_that_dies_does_not_end_the_run(
    pick: Pick,
    probed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def die(what: str, *_: object) -> float:
        raise BadData(f"{what} died")

    monkeypatch.setattr(engine, "run_isolated", die)
    assert pick() == "tflite"
    assert "engine tflite: the probe died\n" in capsys.readouterr().err
    assert not probed


def test_nothing_is_probed_where_it_cannot_pay(
    pick: Pick, probed: list[str], backbone: Backbone
) -> None:
    assert pick(photos=999) == "tflite"
    assert pick(photos=10_000, of=backbone) == "tflite"
    assert pick("tensorflow") == "tensorflow"
    assert pick("tflite") == "tflite"
    assert not probed


def test_an_int8_trunk_runs_on_tflite_however_large_it_is(
    pick: Pick, probed: list[str], large: Backbone
) -> None:
    assert pick(photos=10_000, of=replace(large, precision="int8")) == "tflite"
    assert not probed


def test_another_machine_version_or_backbone_is_probed_again(
    pick: Pick, probed: list[str], large: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick()
    pick(of=replace(large, weights_sha256="others"))
    assert len(probed) == 4
    runtime = find_runtime()
    for at, name, value in (
        (engine, "cpu_name", lambda: "another"),
        (engine, "cores", lambda: 77),
        (metadata, "version", lambda _: "99"),
        (engine, "find_runtime", lambda: runtime._replace(version="99")),
    ):
        before = len(probed)
        with monkeypatch.context() as patch:
            patch.setattr(at, name, value)
            pick()
        assert len(probed) == before + 2, name
    pick()
    assert len(probed) == 12


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"{}",
        b"[]",
        b'{"per_s": {"tflite": 1, "tensorflow": null}}',
        b'{"per_s": {"tflite": 0, "tensorflow": 0}}',
        b'{"per_s": {"tflite": "1", "tensorflow": "2"}}',
        b'{"min_reader": 2, "per_s": {"tflite": 10, "tensorflow": 20}}',
        b'{"per_s": {"tflite": NaN, "tensorflow": 1}}',
    ],
)
def test_a_damaged_memory_is_made_again(
    content: bytes, pick: Pick, probed: list[str], tmp_path: Path
) -> None:
    pick()
    (path,) = (tmp_path / "engines").iterdir()
    path.write_bytes(content)
    assert pick() == "tensorflow"
    assert len(probed) == 4
    assert json.loads(path.read_text())["per_s"] == {"tflite": 10.0, "tensorflow": 20.0}


def test_a_lead_that_does_not_pay_for_tensorflows_start_is_not_taken(
    pick: Pick, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rate(*arguments: object) -> float:
        return {"tflite": 100.0, "tensorflow": 130.0}[str(arguments[3])]

    monkeypatch.setattr(engine, "run_isolated", rate)
    for name in engine._ENGINES:
        monkeypatch.setitem(engine._ENGINES, name, partial(_stub, name))
    assert [pick(photos=count) for count in (1000, 10_000)] == ["tflite", "tensorflow"]


@pytest.mark.parametrize("name", ["tflite", "tensorflow"])
def test_a_probe_measures(backbone: Backbone, name: str) -> None:
    assert engine.measure_rate(name, backbone) > 0
