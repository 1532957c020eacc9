"""Write TFLite metadata, and read it with MediaPipe's and TensorFlow's own parsers."""

import json
import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from mediapipe.tasks.metadata import metadata_schema_py_generated as reference

from deploy.contract import Contract
from deploy.errors import BadData, WrongUse
from retrain.settings.conversion import About
from retrain.tflite import metadata_schema
from retrain.tflite.metadata import attach, describe, extract
from tests.helpers.deploy_fixtures import CONTRACT, SPEC, networks

ABOUT = About('Pilze, "Deutschland" ☀', "Żółw & Söhne", "CC BY 4.0")
VALUES = describe(CONTRACT, ABOUT, 2)
PATTERNS: list[dict[str, Any]] = [
    VALUES,
    describe(replace(CONTRACT, input=replace(SPEC, crop=None)), About(), 0),
    {},
    {
        "name": "of another tool",
        "subgraph_metadata": [
            {
                "name": "main",
                "input_process_units": [
                    {"options": {"RegexTokenizerOptions": {"delim_regex_pattern": "\\W+"}}},
                    {"options": {"ScoreThresholdingOptions": {"global_score_threshold": 0.25}}},
                ],
                "output_tensor_metadata": [
                    {
                        "content": {
                            "content_properties": {
                                "BoundingBoxProperties": {
                                    "index": [1, 0, 3, 2],
                                    "type": "CENTER",
                                    "coordinate_type": "PIXEL",
                                }
                            },
                            "range": {"min": -2, "max": 2},
                        },
                        "dimension_names": ["batch", "box", "ends"],
                        "stats": {"max": [1.0], "min": [-0.5, 0.5]},
                    },
                    {"content": {"content_properties": {"FeatureProperties": {}}}},
                ],
                "output_tensor_groups": [{"name": "both", "tensor_names": ["a", "b"]}],
                "custom_metadata": [{"name": "raw", "data": "00ff10"}],
            },
        ],
    },
]


def tensorflow_model(flatbuffer: bytes) -> Any:
    """Return the model as TensorFlow's own schema reads it, in objects."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer))


def metadata_of(flatbuffer: bytes) -> Any:
    """Return the ModelMetadata as MediaPipe's own schema reads it, in objects."""
    model = tensorflow_model(flatbuffer)
    (index,) = (item.buffer for item in model.metadata if item.name == b"TFLITE_METADATA")
    data = bytes(model.buffers[index].data)
    assert reference.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    return reference.ModelMetadataT.InitFromObj(reference.ModelMetadata.GetRootAs(data))


# What other tools read


def test_mediapipes_parser_reads_the_description() -> None:
    parsed = metadata_of(attach(networks().uint8, VALUES))
    assert parsed.name.decode() == ABOUT.name
    assert parsed.author.decode() == ABOUT.author
    assert parsed.license.decode() == ABOUT.licence
    assert parsed.version == b"3" * 12
    assert parsed.description == (
        b"Tells which of 4 labels a photo shows. Made by retrain 0.1.0 from tiny"
    )
    assert parsed.minParserVersion == b"1.0.0"
    assert [(file.name.decode(), file.type) for file in parsed.associatedFiles] == [
        (name, reference.AssociatedFileType.DESCRIPTIONS)
        for name in ("contract.json", "goldens.json", "golden-0.png", "golden-1.png")
    ]


def test_mediapipes_parser_reads_how_an_image_becomes_the_input() -> None:
    (graph,) = metadata_of(attach(networks().float32, VALUES)).subgraphMetadata
    (image,) = graph.inputTensorMetadata
    assert b"the centred 87.5% of the frame, resized to 32x32 pixels" in image.description
    kind = reference.ContentProperties
    assert image.content.contentPropertiesType == kind.ImageProperties
    properties = image.content.contentProperties
    assert properties.colorSpace == reference.ColorSpaceType.RGB
    assert (properties.defaultSize.width, properties.defaultSize.height) == (32, 32)
    (unit,) = image.processUnits
    assert unit.optionsType == reference.ProcessUnitOptions.NormalizationOptions
    assert (list(unit.options.mean), list(unit.options.std)) == ([128.0], [128.0])


def test_mediapipes_parser_reads_whose_the_labels_are() -> None:
    (graph,) = metadata_of(attach(networks().uint8, VALUES)).subgraphMetadata
    (output,) = graph.outputTensorMetadata
    (labels,) = output.associatedFiles
    assert labels.name == b"labels.txt"
    assert labels.type == reference.AssociatedFileType.TENSOR_AXIS_LABELS


def test_an_empty_setting_is_left_out() -> None:
    parsed = metadata_of(attach(networks().uint8, describe(CONTRACT, About(), 0)))
    assert (parsed.author, parsed.license) == (None, None)
    assert parsed.name == b"tiny, 4 classes"
    assert [file.name for file in parsed.associatedFiles] == [b"contract.json"]


@pytest.mark.parametrize("values", PATTERNS)
def test_mediapipes_writer_is_read_as_ours_is(values: dict[str, Any]) -> None:
    """Read by their parser, written by their writer, read by ours: nothing is lost on the way."""
    import flatbuffers

    ours = metadata_schema.to_bytes(values)
    objects = reference.ModelMetadataT.InitFromObj(reference.ModelMetadata.GetRootAs(ours))
    builder = flatbuffers.Builder()
    builder.Finish(objects.Pack(builder), file_identifier=b"M001")
    assert metadata_schema.from_bytes(bytes(builder.Output())) == values


# In the model


@pytest.mark.parametrize("form", ["float32", "uint8", "int8"])
def test_the_model_stays_what_it_was(form: str) -> None:
    before = getattr(networks(), form)
    after = attach(before, VALUES)
    old, new = tensorflow_model(before), tensorflow_model(after)
    assert new.version == old.version
    assert new.description == old.description
    assert len(new.buffers) == len(old.buffers) + 1
    for before_copy, copy in zip(old.buffers, new.buffers, strict=False):
        np.testing.assert_array_equal(copy.data, before_copy.data)
    names = [item.name for item in new.metadata]
    assert names == [*(item.name for item in old.metadata or []), b"TFLITE_METADATA"]
    assert [item.signatureKey for item in new.signatureDefs or []] == [
        item.signatureKey for item in old.signatureDefs or []
    ]
    scores = []
    for flatbuffer in (before, after):
        runtime = Interpreter(model_content=flatbuffer)
        runtime.allocate_tensors()
        (image,), (output,) = runtime.get_input_details(), runtime.get_output_details()
        photo = np.arange(32 * 32 * 3).reshape(image["shape"]) % 100
        runtime.set_tensor(image["index"], photo.astype(image["dtype"]))
        runtime.invoke()
        scores.append(runtime.get_tensor(output["index"]))
    np.testing.assert_array_equal(*scores)


def test_metadata_that_is_there_is_replaced() -> None:
    once = attach(networks().uint8, describe(CONTRACT, About("one"), 0))
    twice = attach(once, VALUES)
    assert metadata_of(twice).name.decode() == ABOUT.name
    assert extract(twice) == VALUES


@pytest.mark.parametrize("values", PATTERNS)
def test_metadata_is_read_as_it_was_attached(values: dict[str, Any]) -> None:
    assert extract(attach(networks().uint8, values)) == values
    assert json.loads(json.dumps(values)) == values


def test_a_model_without_metadata_has_none() -> None:
    assert extract(networks().uint8) is None


# What is refused


@pytest.mark.parametrize("values", [{"licence": "MIT"}, {"subgraph_metadata": [{"input": []}]}])
def test_a_field_that_the_format_has_not_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="has no"):
        metadata_schema.to_bytes(values)


@pytest.mark.parametrize("content", [b"", b"x", bytes(64), b"\x10\0\0\0TFL2" + bytes(64)])
def test_what_is_no_model_is_bad_data(content: bytes) -> None:
    with pytest.raises(BadData, match=r"not a \.tflite model"):
        extract(content)


def test_damaged_metadata_is_bad_data_or_text() -> None:
    """Whatever a flipped bit makes of an offset or a length, no other error comes of it."""
    whole = metadata_schema.to_bytes(VALUES)
    refused = 0
    chance = random.Random(0)  # noqa: S311
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << chance.randrange(8)
        try:
            json.dumps(metadata_schema.from_bytes(bytes(damaged)))
        except BadData as error:
            refused += "is damaged, or of a later version" in str(error)
    assert refused > 100
    for length in range(len(whole)):
        with suppress(BadData):
            metadata_schema.from_bytes(whole[:length])


@pytest.mark.parametrize("label", ["two\nlines", "two\rlines"])
def test_a_label_of_two_lines_is_refused(label: str) -> None:
    with pytest.raises(BadData, match="is not one line of text"):
        Contract(SPEC, (label, "other"), "tiny", "1", "2", "3", "0.1.0")


def test_what_is_no_text_is_refused_before_anything_is_converted() -> None:
    with pytest.raises(WrongUse, match=r"'\\udcff' is not text in UTF-8"):
        About(author="\udcff")
