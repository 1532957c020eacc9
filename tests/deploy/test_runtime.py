"""Which TFLite runtime is taken, and what is said where there is none."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy.errors import MissingPackage
from deploy.runtime import Model, find_runtime, remedy
from tests.helpers.deploy_fixtures import networks


def test_the_runtime_is_named_with_its_version() -> None:
    import ai_edge_litert

    runtime = Model(networks().uint8).runtime
    assert (runtime.name, runtime.version) == ("LiteRT", ai_edge_litert.__version__)


def test_without_a_runtime_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setitem(sys.modules, f"{module}.interpreter", None)
    with pytest.raises(
        MissingPackage, match=r"no TFLite runtime: pip install 'ai-edge-litert>=2\.3'"
    ):
        find_runtime()


@pytest.mark.parametrize(
    "failure",
    [
        "ImportError('libfoo.so: no such file', name='ai_edge_litert._wrapper')",
        "ModuleNotFoundError('no numpy: libfoo.so', name='numpy')",
    ],
)
def test_a_runtime_that_does_not_load_is_not_called_missing(tmp_path: Path, failure: str) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").touch()
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(f"raise {failure}")
    code = "from deploy.runtime import find_runtime; find_runtime()"
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "MissingPackage: LiteRT is installed but does not load: " in process.stderr
    assert "libfoo.so" in process.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("machine", "python", "bits", "words"),
    [
        ("x86_64", (3, 13), 64, "pip install 'ai-edge-litert>=2.3'"),
        ("aarch64", (3, 13), 64, "pip install 'ai-edge-litert>=2.3'"),
        ("armv7l", (3, 11), 32, "pip install tflite-runtime==2.14.0 'numpy<2'"),
        ("aarch64", (3, 11), 32, "pip install tflite-runtime==2.14.0 'numpy<2'"),
        ("armv6l", (3, 11), 32, "there is none for ARMv6"),
        ("armv7l", (3, 13), 32, "there is none for 32-bit ARM with Python 3.13: use a 64-bit"),
        ("aarch64", (3, 13), 32, "there is none for 32-bit ARM with Python 3.13: use a 64-bit"),
    ],
)
def test_the_remedy_is_the_runtime_that_there_is(
    machine: str, python: tuple[int, int], bits: int, words: str
) -> None:
    """A 32-bit system may have a 64-bit kernel, whose name `platform.machine` tells."""
    assert remedy(machine, python, bits).startswith(words)


@pytest.mark.parametrize(
    ("required", "python", "bits", "words"),
    [
        ("tflite-runtime", (3, 11), 64, "pip install tflite-runtime==2.14.0 'numpy<2'"),
        ("tflite-runtime", (3, 13), 64, "there is none for Python 3.13: use Python 3.11"),
        ("tflite-runtime", (3, 13), 32, "there is none for 32-bit ARM with Python 3.13"),
        ("LiteRT", (3, 13), 64, "pip install 'ai-edge-litert>=2.3'"),
        ("LiteRT", (3, 11), 32, "there is none for 32-bit ARM"),
    ],
)
def test_the_remedy_is_of_the_runtime_that_is_required(
    required: str, python: tuple[int, int], bits: int, words: str
) -> None:
    assert remedy("aarch64", python, bits, required).startswith(words)


def test_a_required_runtime_that_is_missing_is_the_one_to_install() -> None:
    if find_spec("tflite_runtime"):
        pytest.skip("it is installed")
    with pytest.raises(MissingPackage, match=r"^no tflite-runtime: (?!.*ai-edge-litert)"):
        find_runtime("tflite-runtime")


def test_the_old_runtime_is_not_loaded_with_a_new_numpy(tmp_path: Path) -> None:
    (tmp_path / "tflite_runtime").mkdir()
    (tmp_path / "tflite_runtime" / "__init__.py").write_text("raise SystemError('dies')")
    code = (
        "import sys; sys.modules['ai_edge_litert'] = sys.modules['ai_edge_litert.interpreter'] = "
        "None; from deploy.runtime import find_runtime; find_runtime()"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert process.stderr.splitlines()[-1] == (
        "deploy.errors.MissingPackage: tflite-runtime fails with numpy 2: pip install 'numpy<2'"
    )
