"""Read a .keras file without its code, and with no more memory than its bytes need."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import BadData
from tests.helpers.own_networks import keras_model, load, tf

kinds = tf.keras.layers


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small .keras file. Not to be changed."""
    path = tmp_path_factory.mktemp("keras") / "whole.keras"
    keras_model().save(path)
    return path


def changed(whole: Path, path: Path, change: Callable[[Any], Any]) -> Path:
    """Write `whole` to `path` after `change` of its config, a dict or a text of JSON."""
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                config = change(config) or config
                content = config if isinstance(config, bytes) else json.dumps(config).encode()
            new.writestr(name, content)
    return path


def huge_layers(config: Any) -> None:
    layers = config["config"]["layers"]
    for layer in layers:
        layer.pop("build_config", None)
    dense = layers[-1]
    dense["config"]["units"] = 10**5
    layers.append(json.loads(json.dumps(dense)))
    layers[-1]["config"]["name"] = "second"


def many_layers(config: Any) -> None:
    layers = config["config"]["layers"]
    layers += layers[-1:] * 300


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (huge_layers, r"config.json describes 10,00\d,\d+,\d+ weights, .*holds"),
        (many_layers, "it has 3.. layers or more: at most .* 100 in a Sequential"),
        (lambda _: b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "config.json is damaged"),
        (lambda _: b"[" + b" " * 2 * 10**7 + b"]", "config.json unpacks to 20,000,002 bytes"),
        (lambda _: [1], "Keras does not read it"),
        (lambda _: {"class_name": "system", "module": "os", "config": "true"}, "custom object"),
    ],
)
def test_a_small_file_of_a_huge_network_is_refused_unbuilt(
    change: Callable[[Any], Any], words: str, whole: Path, tmp_path: Path
) -> None:
    path = changed(whole, tmp_path / "bomb.keras", change)
    with pytest.raises(BadData, match=words) as caught:
        load(path, tmp_path, size=None)
    assert str(path) in str(caught.value)


def doubled(x: Any) -> Any:
    return x * 2


class Doubled(kinds.Layer):  # type: ignore[misc, name-defined]
    """A layer of a user's own."""

    def call(self, x: Any) -> Any:
        """Return x doubled."""
        return x * 2


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: kinds.Lambda(lambda x: x * 2, name="twice"), "layer twice is a Lambda layer"),
        (lambda: Doubled(name="mine"), "mine is a custom object, Doubled"),
        (lambda: kinds.Dense(3, activation=doubled), "doubled is a custom object, function"),
    ],
)
def test_code_in_a_file_is_refused_in_our_words(
    layer: Callable[[], Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "code.keras"
    keras_model(layer()).save(path)
    with pytest.raises(BadData, match=words) as caught:
        load(path, tmp_path, size=None)
    text = str(caught.value)
    assert "model.export" in text
    assert not [words for words in ("safe_mode", "unsafe", "custom_objects") if words in text]


def outer_model(config: Any) -> None:
    settings = {"filepath": "elsewhere", "call_endpoint": "serve"}
    config["config"]["layers"][1] |= {"class_name": "TFSMLayer", "config": settings}


def unknown_type(config: Any) -> None:
    config["config"]["layers"][1]["config"]["dtype"] = "float7"


@pytest.mark.parametrize(
    ("change", "words"), [(outer_model, "TFSMLayer"), (unknown_type, "Sequential")]
)
def test_the_advice_of_keras_is_not_handed_on(
    change: Callable[[Any], None], words: str, whole: Path, tmp_path: Path
) -> None:
    path = changed(whole, tmp_path / "advice.keras", change)
    with pytest.raises(BadData, match=words) as caught:
        load(path, tmp_path, size=None)
    assert "Remedy: pass the network without its code" in str(caught.value)
    assert not [words for words in ("If you trust", "Please ensure") if words in str(caught.value)]


def test_another_file_in_the_archive_is_refused(whole: Path, tmp_path: Path) -> None:
    path = changed(whole, tmp_path / "more.keras", lambda _: None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/table.txt", "a")
    with pytest.raises(BadData, match=r"also assets/table.txt is in it"):
        load(path, tmp_path, size=None)


def test_weights_that_unpack_to_gigabytes_are_refused(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            padding = bytes(8 * 10**7) if name.endswith(".h5") else b""
            new.writestr(name, old.read(name) + padding)
    assert path.stat().st_size < 10**6
    with pytest.raises(BadData, match=r"unpack to 80,.*an archive bomb"):
        load(path, tmp_path, size=None)
