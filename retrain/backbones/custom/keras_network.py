"""A .keras file as a frozen network; its numbers are checked before anything is built of it."""

import json
import math
import zipfile
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.custom.freeze_function import OwnNetwork, freeze
from retrain.backbones.weights_h5 import read_weights

_MEMBERS = frozenset(("metadata.json", "config.json", "model.weights.h5"))
_MAX_CONFIG_BYTES = 16_000_000
"""Of config.json; that of EfficientNetV2L, with 1,000 layers, has 1 million."""
_MAX_LAYERS = 2_000
_MAX_SEQUENTIAL_LAYERS = 100
"""Of one Sequential: Keras builds it anew with each layer, so its time grows with the square."""
_ADVICE = (
    "If you trust",
    "Please ensure",
    "safe_mode",
    "unsafe",
    "custom_objects",
    "register_keras",
)
"""What Keras tells to switch on or off, which is no remedy here."""
_REMEDY = (
    "Remedy: pass the network without its code: as a SavedModel, model.export('folder'), or as a "
    "frozen graph (.pb)"
)


def read(path: Path) -> OwnNetwork:
    """Return the network in the .keras file at `path`; raise BadData.

    Nothing foreign is run. Memory and time are bounded by the file: its config may describe no
    more numbers than its weights hold.
    """
    try:
        config = _config(path)
        for part in _objects(config):
            _require_no_code(part)
        stored = sum(tensor.size for tensor in read_weights(path).values())
        described = _count(config)
        if described > stored:
            raise BadData(
                f"damaged: config.json describes {described:,} weights, and model.weights.h5 "
                f"holds {stored:,}"
            )
        return _load(path)
    except BadData as error:
        raise error if str(path) in str(error) else BadData(f"{path}: {error}") from error
    except Exception as error:  # Keras raises any kind
        raise BadData(f"{path}: Keras does not read it ({_line(error)}). {_REMEDY}") from error


def _config(path: Path) -> Any:
    """Return the parsed config.json."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {each.filename: each for each in archive.infolist() if not each.is_dir()}
            others = sorted({*members} - _MEMBERS)
            if others or len(members) < len(_MEMBERS):
                named = f"also {others[0]}" if others else f"only {', '.join(members) or 'nothing'}"
                raise BadData(
                    f"a network holds {', '.join(sorted(_MEMBERS))} and nothing else: {named} is "
                    f"in it. {_REMEDY}"
                )
            size = members["config.json"].file_size
            if size > _MAX_CONFIG_BYTES:
                raise BadData(f"its config.json unpacks to {size:,} bytes, an archive bomb")
            return json.loads(archive.read("config.json"))
    except (ValueError, RecursionError) as error:
        raise BadData(f"its config.json is damaged ({_line(error)})") from error
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadData(f"not a .keras file (a zip archive), or damaged ({error})") from error


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield each object of the config that names a class; raise BadData for too many layers."""
    todo, total = [config], 0
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            todo += part.values()
            settings = part.get("config")
            layers = settings.get("layers") if isinstance(settings, dict) else None
            count = len(layers) if isinstance(layers, list) else 0
            total += count
            sequential = part.get("class_name") == "Sequential"
            if total > _MAX_LAYERS or (sequential and count > _MAX_SEQUENTIAL_LAYERS):
                raise BadData(
                    f"it has {total:,} layers or more: at most {_MAX_LAYERS:,} are read, "
                    f"{_MAX_SEQUENTIAL_LAYERS} in a Sequential"
                )
            if "class_name" in part:
                yield part
        elif isinstance(part, list):
            todo += part


def _require_no_code(part: dict[str, Any]) -> None:
    """Raise BadData for an object of the config that is no class of Keras' own, or is code."""
    kind, module = part["class_name"], part.get("module") or ""
    settings = part.get("config")
    name = settings.get("name") if isinstance(settings, dict) else settings
    if kind == "Lambda" or kind == "__lambda__":
        raise BadData(f"layer {name} is a Lambda layer, Python code, which is not run. {_REMEDY}")
    if str(kind).startswith("__"):  # a tuple, a tensor: values of Keras' own
        return
    if str(module).split(".")[0] != "keras":
        raise BadData(
            f"{name or kind} is a custom object, {kind}: its Python code is not in the file, and "
            f"would not be run. {_REMEDY}"
        )
    if "Spectrogram" in str(kind):
        raise BadData(f"layer {name} is for sound, {kind}: a network of photos is needed")


def _count(config: Any) -> int:
    """Return how many weights the network has, in numbers; none is allocated."""
    tf_graph.tensorflow()
    import keras

    whole = {name: value for name, value in config.items() if name != "compile_config"}
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(whole, safe_mode=True)
        return sum(math.prod(each.shape) for each in model.weights)
    finally:
        keras.utils.clear_session()  # it would allocate them later


def _load(path: Path) -> OwnNetwork:
    tf = tf_graph.tensorflow()
    model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    inputs = model.inputs
    if len(inputs) != 1:
        named = ", ".join(f"{each.name} {tuple(each.shape)}" for each in inputs)
        raise BadData(
            f"{len(inputs)} inputs ({named}) instead of one that takes photos. Remedy: save the "
            "network with one input"
        )
    run = tf.function(lambda images: model(images, training=False))
    spec = tf.TensorSpec(inputs[0].shape, inputs[0].dtype)
    return freeze(run.get_concrete_function(spec))


def _line(error: Exception) -> str:
    """Return the first line of what Keras says, without its advice."""
    first = next(iter(str(error).strip().splitlines()), "")
    reason = takewhile(lambda part: not any(each in part for each in _ADVICE), first.split(". "))
    return ". ".join(reason)[:200] or type(error).__name__
