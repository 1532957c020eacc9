"""Write a model's objects again: nothing is lost, and every buffer is aligned."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploy.errors import BadData
from retrain.tflite.edit import ModelEditor
from tests.helpers.conversions import tiny_trunk
from tests.helpers.deploy_fixtures import networks
from tests.helpers.quantized_fixtures import convert

FORMS: dict[str, Callable[[], bytes]] = {
    "float32": lambda: networks().float32,
    "int8 with signatures": lambda: networks().int8,
    "trunk": tiny_trunk,
    "dynamic": lambda: convert("dynamic"),
    "int16x8": lambda: convert("int16x8"),
}


def content(value: Any) -> Any:
    """Return an object of TensorFlow's schema as lists, dictionaries and numbers."""
    if isinstance(value, list | np.ndarray):
        return [content(item) for item in value]
    return {k: content(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value


def read(flatbuffer: bytes) -> Any:
    """Return the model as another reader and another schema see it."""
    from tensorflow.lite.python import schema_py_generated as schema

    return content(schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer)))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_lost(form: str) -> None:
    flatbuffer = FORMS[form]()
    rewritten = ModelEditor(flatbuffer).to_bytes()
    assert read(rewritten) == read(flatbuffer)
    assert ModelEditor(rewritten).to_bytes() == rewritten


@pytest.mark.parametrize("padding", [0, 1, 4, 15])
def test_every_buffer_is_aligned(padding: int) -> None:
    from ai_edge_litert import schema_py_generated as schema

    editor = ModelEditor(networks().uint8 + bytes(padding))
    editor.add_buffer(b"x" * (16 + padding))
    model = schema.Model.GetRootAs(editor.to_bytes())
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    tables = [buffer._tab for buffer in buffers if buffer.DataLength()]
    assert len(tables) > 4
    assert {table.Vector(table.Offset(4)) % 16 for table in tables} == {0}


def test_a_model_of_two_graphs_is_refused() -> None:
    editor = ModelEditor(networks().uint8)
    editor.model.subgraphs *= 2
    with pytest.raises(BadData, match="a model of several graphs"):
        ModelEditor(editor.to_bytes())
