"""Write TFLite metadata, which describes a model to other runtimes, into its flatbuffer.

MediaPipe Tasks, ML Kit and Android Studio then load the file as it is. The format:
https://www.tensorflow.org/lite/models/convert/metadata.
"""

from typing import Any

from deploy import goldens
from deploy.contract import Contract, InputSpec
from deploy.errors import BadData
from deploy.flatbuffer import check
from deploy.untrusted_files import damaged
from retrain.settings.conversion import About
from retrain.tflite import metadata_schema
from retrain.tflite.edit import ModelEditor

_NAME = "TFLITE_METADATA"


def describe_input(spec: InputSpec) -> str:
    """Return in words what a network takes of a photo."""
    area = "the whole frame" if spec.crop is None else f"the centred {spec.crop:.1%} of the frame"
    return (
        f"An upright RGB photo: {area}, resized to {spec.width}x{spec.height} pixels, {spec.filter}"
    )


def describe(contract: Contract, about: About, golden_photos: int) -> dict[str, Any]:
    """Return the ModelMetadata, as `metadata_schema.to_bytes` takes it.

    It has the normalization of the float model for uint8 inputs as well, as the format requires.
    """
    spec = contract.input
    general = {
        "name": about.name or f"{contract.backbone}, {len(contract.labels)} classes",
        "description": f"Tells which of {len(contract.labels)} labels a photo shows. Made by "
        f"retrain {contract.tool_version} from {contract.backbone}",
        "version": contract.graph_sha256[:12],
        "author": about.author,
        "license": about.licence,
        "min_parser_version": "1.0.0",
    }
    image = {
        "name": "image",
        "description": describe_input(spec),
        "content": {
            "content_properties": {
                "ImageProperties": {
                    "color_space": spec.order,
                    "default_size": {"width": spec.width, "height": spec.height},
                }
            }
        },
        "process_units": [
            {"options": {"NormalizationOptions": {"mean": [spec.mean], "std": [spec.std]}}}
        ],
    }
    probability = {
        "name": "probability",
        "description": "The probability of each label, of 0..1",
        "content": {"content_properties": {"FeatureProperties": {}}},
        "associated_files": [
            {
                "name": "labels.txt",
                "description": "The labels, one a line, in the order of the output",
                "type": "TENSOR_AXIS_LABELS",
            }
        ],
    }
    files = {"contract.json": "How a photo becomes the input, and where the model came from"}
    if golden_photos:
        files["goldens.json"] = "What the golden photos must give on any device"
        files |= {goldens.name(i): "A golden photo" for i in range(golden_photos)}
    return {
        **{field: value for field, value in general.items() if value},
        "subgraph_metadata": [
            {"input_tensor_metadata": [image], "output_tensor_metadata": [probability]}
        ],
        "associated_files": [
            {"name": name, "description": text, "type": "DESCRIPTIONS"}
            for name, text in files.items()
        ],
    }


def attach(flatbuffer: bytes, values: dict[str, Any]) -> bytes:
    """Return the model `flatbuffer` with this ModelMetadata, which replaces any other."""
    editor = ModelEditor(flatbuffer)
    detach(editor)
    buffer = editor.add_buffer(metadata_schema.to_bytes(values))
    editor.model.metadata.append(editor.schema.MetadataT(_NAME, buffer))
    return editor.to_bytes()


def detach(editor: ModelEditor) -> None:
    """Remove the ModelMetadata, if there are any, and the buffers at the end that nothing uses."""
    entries = editor.model.metadata or []
    editor.model.metadata = [entry for entry in entries if entry.name != _NAME.encode()]
    users = (*editor.graph.tensors, *editor.model.metadata)
    del editor.model.buffers[max(user.buffer for user in users) + 1 :]


def extract(flatbuffer: bytes) -> dict[str, Any] | None:
    """Return the ModelMetadata in a model, None if it has none; raise BadData if it is damaged."""
    model = _model(flatbuffer)
    with damaged("damaged: its metadata cannot be found"):
        indices = [item.Buffer() for item in _entries(model) if item.Name() == _NAME.encode()]
        if not indices:
            return None
        data = model.Buffers(range(model.BuffersLength())[indices[0]]).DataAsNumpy().tobytes()
    return metadata_schema.from_bytes(data)


def require(flatbuffer: bytes, values: dict[str, Any]) -> None:
    """Raise BadData if a model's ModelMetadata is not `values`, numbers as float32."""
    written = extract(flatbuffer)
    if written is None or metadata_schema.to_bytes(written) != metadata_schema.to_bytes(values):
        raise BadData("the metadata in the model differs from what was written")


def _model(flatbuffer: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    check(flatbuffer)
    return schema.Model.GetRootAs(flatbuffer)


def _entries(model: Any) -> list[Any]:
    return [model.Metadata(i) for i in range(model.MetadataLength())]
