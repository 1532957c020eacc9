"""`--choose` tries, measures and keeps every recipe, and reports what fails."""

import json
from pathlib import Path

import pytest

from bench import find_models
from deploy import model_file
from deploy.errors import BadData
from retrain.conversion import choose_recipe, layer_errors
from retrain.conversion.choose_recipe import RecipeFigures, mark_best
from retrain.conversion.layer_errors import LayerError
from retrain.conversion.parity import Parity
from retrain.data.manifest import read_manifest
from retrain.frozen_graph import FrozenGraph
from retrain.quantization import quantize
from retrain.quantization.quantize import Pixels
from retrain.settings.conversion import RECIPES, Quantization
from tests.helpers.conversions import tiny_flatbuffer
from tests.helpers.deploy_fixtures import networks
from tests.helpers.runs import Invoke

TRIED = [recipe.name for recipe in RECIPES.values() if recipe.tried_by_choose]


def recipe_models(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "recipes").glob("*")}


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose among two recipes, converted already, and one that TFLite does not convert."""

    def convert(_graph: FrozenGraph, how: Quantization, _photos: Pixels) -> bytes:
        if how.recipe == "dynamic":
            raise BadData("converting with dynamic failed")
        return tiny_flatbuffer(how)

    monkeypatch.setattr(quantize, "quantize", convert)
    tried = ("int8", "dynamic", "float32")
    monkeypatch.setattr(choose_recipe, "RECIPES", {name: RECIPES[name] for name in tried})


@pytest.mark.usefixtures("choices")
@pytest.mark.parametrize(("by", "value"), [("smallest", "bytes"), ("fastest", "p50_ms")])
def test_a_choice_is_of_what_was_measured(run: Path, invoke: Invoke, by: str, value: str) -> None:
    result = invoke("convert", "--output-dir", run, "--choose", by)
    assert result.exit_code == 0, result.output
    result_json = json.loads((run / "conversion.json").read_text("utf-8"))
    rows = {row["recipe"]: row for row in result_json["candidates"]}
    assert set(rows) == {"int8", "float32"} == recipe_models(run)
    assert result_json["failed"] == {"dynamic": "converting with dynamic failed"}
    best = min(rows.values(), key=lambda row: row[value])
    assert (result_json["calibration_images"] > 0) == (best["recipe"] == "int8")
    assert result_json["recipe"] == best["recipe"]
    assert best["best"]
    assert (run / "model.tflite").read_bytes() == run.joinpath(
        "recipes", f"{best['recipe']}.tflite"
    ).read_bytes()
    (line,) = [line for line in result.stderr.splitlines() if line.endswith("chosen")]
    assert line.split()[0] == best["recipe"]


@pytest.mark.usefixtures("choices")
def test_no_choice_is_the_gates_refusal(run: Path, invoke: Invoke) -> None:
    bounds = ("--max-mean-difference", 0, "--max-accuracy-drop", 0)
    result = invoke("convert", "--output-dir", run, "--choose", "smallest", *bounds)
    assert result.exit_code == 4
    _, _, report = result.stderr.partition("Warning: no recipe is near enough to the graph\n")
    for line, name in zip(report.splitlines(), ("int8", "float32"), strict=False):
        assert line.startswith(f"  {name}: its probabilities are ")
        assert line.endswith(" from the graph's in the mean; --max-mean-difference is 0")
    assert f"Error: {run / 'model.rejected.tflite'}: its probabilities are" in report
    assert not (run / "model.tflite").exists()
    record = json.loads((run / "conversion.json").read_text("utf-8"))
    assert (record["passed"], record["recipe"], record["calibration_images"]) == (
        False,
        "float32",
        0,
    )
    remedy = report.partition("Remedy: ")[2].splitlines()[0]
    assert remedy == "wider bounds if you can live with it"
    assert invoke("bundle", "--output-dir", run).exit_code == 4


@pytest.mark.usefixtures("choices")
def test_what_is_refused_is_kept_as_such_and_what_an_earlier_run_tried_is_not(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Parity.violations
    monkeypatch.setattr(
        Parity,
        "violations",
        lambda self, bounds: ["too far"] if self.max_difference > 1e-4 else right(self, bounds),
    )
    for name in ("int16x8.tflite", "int8.tflite", "rejected/dynamic.tflite"):
        (run / "recipes" / name).parent.mkdir(parents=True, exist_ok=True)
        (run / "recipes" / name).write_bytes(b"of an earlier run")
    (run / "recipes/mine.txt").touch()
    result = invoke("convert", "--output-dir", run, "--choose")
    assert result.exit_code == 0, result.output
    files = {
        path.relative_to(run / "recipes").as_posix()
        for path in (run / "recipes").rglob("*")
        if path.is_file()
    }
    assert files == {"float32.tflite", "rejected/int8.tflite", "mine.txt"}
    assert model_file.read(run / "recipes/rejected/int8.tflite").contract.recipe == "int8"
    names = {file.name for file in find_models.models_of_run(run)}
    assert names == {"output_graph.pb", "model.tflite"}
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 4, result.output
    assert not list((run / "recipes").rglob("*.tflite"))


@pytest.mark.usefixtures("choices")
def test_a_photo_that_changed_is_no_fault_of_a_recipe(run: Path, invoke: Invoke) -> None:
    photo = next(photo for photo, name in read_manifest(run / "manifest.csv") if name == "testing")
    Path(photo.path).write_bytes(b"GIF89a")
    result = invoke("convert", "--output-dir", run, "--choose")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith(f"Error: {photo.path}: ")
    assert "no recipe" not in result.stderr


def test_a_graph_that_no_recipe_converts_is_bad_data(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_graph: FrozenGraph, how: Quantization, _photos: Pixels) -> bytes:
        raise BadData(f"converting with {how.recipe} failed")

    monkeypatch.setattr(quantize, "quantize", fail)
    result = invoke("convert", "--output-dir", run, "--choose")
    assert result.exit_code == 3
    for name in TRIED:
        assert f"converting with {name} failed" in result.stderr
    assert "Error: no recipe makes a model of this graph" in result.stderr


def test_what_is_for_int8_is_for_int8_alone(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {}

    def convert(_graph: FrozenGraph, how: Quantization, _photos: Pixels) -> bytes:
        used[how.recipe] = (how.output_type, how.keep_float, how.time_limit)
        return networks().float32

    monkeypatch.setattr(quantize, "quantize", convert)
    options = ("--output-type", "uint8", "--keep-float", "x", "--time-limit", 60)
    result = invoke("convert", "--output-dir", run, "--choose", *options)
    assert result.exit_code == 0, result.output
    defaults = dict.fromkeys(set(TRIED) - {"int8"}, ("float32", (), 60))
    assert used == {"int8": ("uint8", ("x",), 60)} | defaults


@pytest.mark.usefixtures("choices")
def test_int8_is_explained_whatever_is_chosen(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = []

    def explain(_graph: FrozenGraph, how: Quantization, _photos: Pixels) -> list[LayerError]:
        explained.append(how.recipe)
        return [LayerError("MatMul", 20.0, None)]

    monkeypatch.setattr(layer_errors, "explain", explain)
    result = invoke("convert", "--output-dir", run, "--choose", "--explain")
    assert result.exit_code == 0, result.output
    assert explained == ["int8"]
    (layer,) = json.loads((run / "conversion.json").read_text("utf-8"))["layers"]
    assert layer["name"] == "MatMul"


def test_a_choice_leaves_no_recipe_to_be_named(run: Path, invoke: Invoke) -> None:
    result = invoke("convert", "--output-dir", run, "--choose", "--quantize", "int8")
    assert result.exit_code == 2
    assert "--choose tries every recipe: leave out --quantize" in result.stderr


def test_int8_that_is_slower_is_said_and_why() -> None:
    assert not choose_recipe.explain_slow_int8({"int8": 1.0, "float32": 2.0})
    (line,) = choose_recipe.explain_slow_int8({"int8": 5.0, "float32": 2.0})
    assert line.startswith("int8 takes 2.5 times the time of float32 here: ")


def test_the_best_models_are_those_that_no_other_beats() -> None:
    def figures(accuracy: float, size: int, p50_ms: float) -> RecipeFigures:
        return RecipeFigures("int8", accuracy, (0.0, 1.0), 1.0, size, p50_ms, ())

    rows = [figures(0.9, 4, 2.0), figures(0.9, 4, 2.0), figures(0.9, 4, 3.0), figures(0.8, 3, 9.0)]
    assert [row.best for row in mark_best(rows)] == [True, True, False, True]
