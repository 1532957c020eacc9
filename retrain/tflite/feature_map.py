"""Let a backbone's flatbuffer give the feature map that its bottleneck is the mean of."""

from retrain.tflite.edit import ModelEditor
from retrain.tflite.model import Operator, read_model

_RESHAPING = ("RESHAPE", "SQUEEZE")


def give_feature_map(flatbuffer: bytes) -> tuple[bytes, tuple[int, int, int]] | None:
    """Return the model that ends before its pooling, and the shape of its output for one photo.

    The shape is (height, width, channels). Returns None unless the output of `flatbuffer` is the
    mean of a feature map over all places, and nothing else. Raises BadData if it is damaged.
    """
    pooling = _pooling(flatbuffer)
    if pooling is None:
        return None
    editor = ModelEditor(flatbuffer)
    graph = editor.graph
    feature_map = pooling.input_indices[0]
    position = next(i for i, op in enumerate(graph.operators) if feature_map in op.outputs)
    del graph.operators[position + 1 :]
    graph.outputs = [feature_map]
    editor.model.signatureDefs = None
    _, height, width, channels = pooling.inputs[0].default_shape
    return editor.to_bytes(), (height, width, channels)


def _pooling(flatbuffer: bytes) -> Operator | None:
    """Return the operator that computes the model's output as the mean of a feature map."""
    graph = read_model(flatbuffer).subgraphs[0]
    computed_by = {index: op for op in graph.operators for index in op.output_indices}
    operator = computed_by.get(graph.output_indices[0])
    while operator and operator.name in _RESHAPING:
        operator = computed_by.get(operator.input_indices[0])
    if operator is None or operator.input_indices[0] not in computed_by:
        return None
    shape = operator.inputs[0].default_shape
    if len(shape) != 4 or operator.inputs[0].type != "FLOAT32":
        return None
    return operator if _averages_all(operator, shape[1], shape[2]) else None


def _averages_all(operator: Operator, height: int, width: int) -> bool:
    """Return whether an operator takes the mean of all places of a map of these sides."""
    if operator.name == "MEAN":
        axes = operator.inputs[1]
        return axes.constant and sorted(axes.value().tolist()) == [1, 2]
    if operator.name != "AVERAGE_POOL_2D" or operator.activation != "NONE":
        return False
    sides = operator.options.FilterHeight(), operator.options.FilterWidth()
    return sides == (height, width) and operator.outputs[0].default_shape[1:3] == (1, 1)
