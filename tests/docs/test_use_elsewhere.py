"""The page's program without `deploy` prints what `deploy` says, for each type of output."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from deploy import model_file
from deploy.classifier import Classifier
from retrain.frozen_graph import FrozenGraph
from retrain.quantization.quantize import quantize, span_byte_range
from retrain.settings.conversion import Quantization
from tests.helpers.deploy_fixtures import CONTRACT, SPEC, draw_photos, networks
from tests.helpers.pages import ROOT, examples

PAGE = ROOT / "docs/how-to/use-the-model-elsewhere.md"


@pytest.mark.parametrize("output_type", ["float32", "uint8"])
def test_the_program_for_the_interpreter_prints_probabilities(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output_type: str,
) -> None:
    corners = 255 * np.indices((2, 2, 2), np.uint8).reshape(3, 8).T
    pixels = np.broadcast_to(corners[:, np.newaxis, np.newaxis], (8, SPEC.height, SPEC.width, 3))
    graph = FrozenGraph(networks().graph, SPEC, "final_result")
    quantization = Quantization("int8", output_type)
    flatbuffer = quantize(graph, quantization, span_byte_range(pixels))
    (tmp_path / "model.tflite").write_bytes(model_file.pack(flatbuffer, CONTRACT))
    photo = draw_photos(tmp_path)["blue"]

    codes = [example.code for example in examples(PAGE)]
    (program,) = (code for code in codes if "interpreter.invoke()" in code)
    names = f'MODEL, PHOTO = "model.tflite", "{photo}"'
    program = re.sub(r"^MODEL, PHOTO = .*$", names, program, flags=re.M)
    (tmp_path / "program.py").write_text(program, "utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("program.py")
    predictions = Classifier.open("model.tflite").classify(photo)
    expected = [f"{score:.1%} {label}" for label, score in predictions]
    assert capsys.readouterr().out.splitlines()[0] == expected[0]
