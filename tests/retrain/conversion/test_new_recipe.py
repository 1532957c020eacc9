"""A new recipe is one row of RECIPES: every command and module works with it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bench import find_models
from deploy import model_file
from deploy.errors import WrongUse
from retrain.conversion.targets import TARGETS
from retrain.run_folder import RunFolder
from retrain.settings.conversion import (
    RECIPES,
    Bounds,
    ConvertSettings,
    Quantization,
    Recipe,
    list_recipes,
)
from tests.helpers.deploy_fixtures import LABELS
from tests.helpers.runs import Invoke

ROW = Recipe(
    name="int8-float-input",
    weights="int8",
    activations="int8",
    output_types=("float32", "uint8"),
    golden_tolerance=0.2,
    mixed_precision=True,
    targets=("litert",),
)


@pytest.fixture(autouse=True)
def convert(monkeypatch: pytest.MonkeyPatch) -> click.Command:
    """Return the command `retrain convert`, loaded anew after the row was added to RECIPES."""
    monkeypatch.setitem(RECIPES, ROW.name, ROW)
    spec = importlib.util.find_spec("retrain.cli.convert")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    command: click.Command = module.convert
    return command


def run_command(command: click.Command, *arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, words, default_map={"no_report": True})


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_convert_makes_a_model_by_it(convert: click.Command, run: Path, invoke: Invoke) -> None:
    assert ROW.name in run_command(convert, "--help").output
    result = run_command(convert, "--output-dir", run, "--quantize", ROW.name, "--explain")
    assert result.exit_code == 0, result.output
    file = model_file.read(run / "model.tflite")
    assert file.contract.recipe == ROW.name
    assert file.tolerance == ROW.golden_tolerance
    assert [layer["name"] for layer in read_json(run / "conversion.json")["layers"]]
    photo = run.parent / "photos" / LABELS[0] / "0.png"
    result = invoke("label", photo, "--model", run / "model.tflite", "--json")
    assert json.loads(result.stdout)["labels"][0] == LABELS[0]


def test_choose_tries_it_and_keeps_its_model(convert: click.Command, run: Path) -> None:
    result = run_command(convert, "--output-dir", run, "--choose", "smallest")
    assert result.exit_code == 0, result.output
    assert f"{ROW.name} " in result.stderr
    recipes = [row["recipe"] for row in read_json(run / "conversion.json")["candidates"]]
    assert recipes == [recipe.name for recipe in RECIPES.values() if recipe.tried_by_choose]
    assert recipes[-1] == ROW.name
    scores = {model.name: model.score for model in find_models.models_of_run(run)}
    assert scores[f"recipes/{ROW.name}.tflite"]
    RunFolder(run).forget_recipes()
    assert not RunFolder(run).recipe(ROW.name).exists()


def test_its_targets_are_checked(
    convert: click.Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "litert", TARGETS["edgetpu"])
    result = run_command(convert, "--output-dir", run, "--quantize", ROW.name)
    assert "the Edge TPU does not run this model" in str(result.exception)


def test_messages_name_it() -> None:
    with pytest.raises(WrongUse, match="`keep_float` is for int8 and int8-float-input, not for dy"):
        Quantization("dynamic", keep_float=("x",))
    with pytest.raises(WrongUse, match="`output_type` uint8 is for int8, int8-edgetpu and int8-fl"):
        Quantization("dynamic", output_type="uint8")
    with pytest.raises(WrongUse, match="`explain` is for int8, int8-edgetpu and int8-float-input,"):
        ConvertSettings(quantization=Quantization("dynamic"), explain=True)
    assert list_recipes(lambda recipe: recipe.name == ROW.name) == ROW.name
    assert list_recipes(lambda _: False) == "none"
    assert Bounds() == ConvertSettings().bounds
