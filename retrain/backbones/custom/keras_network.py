"""Read a .keras file as a frozen network; check its size before anything is built of it."""

import json
import math
import zipfile
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from deploy.errors import BadData
from deploy.system.counts import with_noun
from deploy.untrusted_files import naming
from retrain import tf_graph
from retrain.backbones.custom.custom_network import CustomNetwork
from retrain.backbones.custom.freeze_function import freeze, require_one_input
from retrain.backbones.weights_h5 import read_weights

_MEMBERS = frozenset(("metadata.json", "config.json", "model.weights.h5"))
_MAX_CONFIG_BYTES = 16_000_000
"""config.json of EfficientNetV2L, with 1,000 layers, has 1 million."""
_MAX_LAYERS = 2_000
_MAX_SEQUENTIAL_LAYERS = 100
"""Keras builds a Sequential anew with each layer, so its time grows with the square."""
_UNSAFE_ADVICE = (
    "If you trust",
    "Please ensure",
    "safe_mode",
    "unsafe",
    "custom_objects",
    "register_keras",
)
"""Advice in errors of Keras, to switch checks off, which is no remedy here."""
_REMEDY = (
    "Remedy: pass the network without its code: as a SavedModel, model.export('folder'), or as a "
    "frozen graph (.pb)"
)


def read(path: Path) -> CustomNetwork:
    """Return the network in the .keras file at `path`; raise BadData.

    Nothing foreign is run. Memory and time are bounded by the file: its config may describe no
    more numbers than its weights hold.
    """
    with naming(path):
        try:
            config = _read_config(path)
            for item in _objects(config):
                _require_no_code(item)
            stored = sum(tensor.size for tensor in read_weights(path).values())
            described = _count_weights(config)
            if described > stored:
                raise BadData(
                    f"damaged: config.json describes {with_noun(described, 'weight')}, and "
                    f"model.weights.h5 holds {stored:,}"
                )
            return _load(path)
        except BadData:
            raise
        except Exception as error:  # Keras raises any kind
            raise BadData(f"Keras does not read it ({_reason(error)}). {_REMEDY}") from error


def _read_config(path: Path) -> Any:
    """Return the parsed config.json."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {item.filename: item for item in archive.infolist() if not item.is_dir()}
            unknown = sorted({*members} - _MEMBERS)
            if unknown or len(members) < len(_MEMBERS):
                listed = ", ".join(members) or "nothing"
                content = f"also {unknown[0]}" if unknown else f"only {listed}"
                raise BadData(
                    f"a network holds {', '.join(sorted(_MEMBERS))} and nothing else: {content} is "
                    f"in it. {_REMEDY}"
                )
            size = members["config.json"].file_size
            if size > _MAX_CONFIG_BYTES:
                raise BadData(f"its config.json unpacks to {size:,} bytes, an archive bomb")
            return json.loads(archive.read("config.json"))
    except (ValueError, RecursionError) as error:
        raise BadData(f"its config.json is damaged ({_reason(error)})") from error
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadData(f"not a .keras file (a zip archive), or damaged ({error})") from error


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield each object of the config that names a class; raise BadData for too many layers."""
    waiting, total = [config], 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
            settings = item.get("config")
            layers = settings.get("layers") if isinstance(settings, dict) else None
            count = len(layers) if isinstance(layers, list) else 0
            total += count
            sequential = item.get("class_name") == "Sequential"
            if total > _MAX_LAYERS or (sequential and count > _MAX_SEQUENTIAL_LAYERS):
                raise BadData(
                    f"it has {total:,} layers or more: at most {_MAX_LAYERS:,} are read, "
                    f"{_MAX_SEQUENTIAL_LAYERS} in a Sequential"
                )
            if "class_name" in item:
                yield item
        elif isinstance(item, list):
            waiting += item


def _require_no_code(item: dict[str, Any]) -> None:
    """Raise BadData for an object of the config that is code, or no class of Keras."""
    kind, module = item["class_name"], item.get("module") or ""
    settings = item.get("config")
    name = settings.get("name") if isinstance(settings, dict) else settings
    if kind == "Lambda" or kind == "__lambda__":
        raise BadData(f"layer {name} is a Lambda layer, Python code, which is not run. {_REMEDY}")
    if str(kind).startswith("__"):  # a tuple or a tensor: a value
        return
    if str(module).split(".")[0] != "keras":
        raise BadData(
            f"{name or kind} is a custom object, {kind}: its Python code is not in the file, and "
            f"would not be run. {_REMEDY}"
        )
    if "Spectrogram" in str(kind):
        raise BadData(f"layer {name} is for sound, {kind}: a network of photos is needed")


def _count_weights(config: Any) -> int:
    """Return how many numbers the network's weights have; none is allocated."""
    tf_graph.tensorflow()
    import keras

    network = {name: value for name, value in config.items() if name != "compile_config"}
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(network, safe_mode=True)
        return sum(math.prod(weight.shape) for weight in model.weights)
    finally:
        keras.utils.clear_session()  # it would allocate them later


def _load(path: Path) -> CustomNetwork:
    tf = tf_graph.tensorflow()
    model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    inputs = model.inputs
    require_one_input(inputs)
    function = tf.function(lambda images: model(images, training=False))
    spec = tf.TensorSpec(inputs[0].shape, inputs[0].dtype)
    return freeze(function.get_concrete_function(spec))


def _reason(error: Exception) -> str:
    """Return the first line of an error of Keras, without its advice."""
    first = next(iter(str(error).strip().splitlines()), "")
    reason = takewhile(
        lambda sentence: not any(words in sentence for words in _UNSAFE_ADVICE), first.split(". ")
    )
    return ". ".join(reason)[:200] or type(error).__name__
