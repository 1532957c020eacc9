"""Find a TFLite runtime and run a model with it: array in, float32 array out."""

import importlib.util
import os
import platform
import shlex
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.errors import MissingPackage
from deploy.flatbuffer import check
from deploy.requirements import LITERT, MIN_LITERT, TFLITE_RUNTIME
from deploy.untrusted_files import damaged


class Runtime(NamedTuple):
    """An installed TFLite runtime."""

    name: str
    version: str
    interpreter: Any


_RUNTIMES = (("LiteRT", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime"))


def find_runtime(required: str | None = None) -> Runtime:
    """Return LiteRT if it is installed, else tflite-runtime; raise MissingPackage without both.

    `required` is the name of the only runtime that may be returned.
    """
    for name, package in _RUNTIMES:
        if required not in (None, name):
            continue
        if name == "tflite-runtime" and np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            if importlib.util.find_spec(package):
                raise MissingPackage("tflite-runtime fails with numpy 2: pip install 'numpy<2'")
            continue
        try:
            interpreter = importlib.import_module(f"{package}.interpreter").Interpreter
        except ImportError as error:
            missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
            if missing.split(".")[0] != package:
                raise MissingPackage(f"{name} is installed but does not load: {error}") from error
            continue
        return Runtime(name, sys.modules[package].__version__, interpreter)
    command = remedy(platform.machine(), sys.version_info[:2], required=required)
    raise MissingPackage(f"no {required or 'TFLite runtime'}: {command}")


def remedy(
    machine: str,
    python: tuple[int, int],
    bits: int = 8 * struct.calcsize("P"),
    required: str | None = None,
) -> str:
    """Return how to install a runtime here, `required` as in `find_runtime`.

    `bits` are Python's, the kernel's may be more.
    """
    has_litert = not machine.startswith(("arm", "aarch")) or bits == 64
    if has_litert and required != "tflite-runtime":
        return f"pip install '{LITERT}>={MIN_LITERT}'"
    if required == "LiteRT":
        return "there is none for 32-bit ARM"
    if machine == "armv6l":
        return "there is none for ARMv6, such as a Raspberry Pi 1 or Zero"
    if python < (3, 12):
        return f"pip install {shlex.join(TFLITE_RUNTIME)}"
    if has_litert:
        return f"there is none for Python {python[0]}.{python[1]}: use Python 3.11"
    return (
        f"there is none for 32-bit ARM with Python {python[0]}.{python[1]}: use a 64-bit system, "
        "or one with Python 3.11, such as Raspberry Pi OS Bookworm"
    )


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what C++ code writes to stderr: both runtimes log when they load, without a switch."""
    try:
        stderr = os.dup(2)
    except OSError:  # a service may have none
        stderr = None
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        if null != 2:
            os.dup2(null, 2)
        yield
    finally:
        if stderr is None:
            os.close(2)
        else:
            os.dup2(stderr, 2)
            os.close(stderr)
        if null != 2:
            os.close(null)


_stderr_lock = threading.Lock()
"""Two threads that both replaced stderr would restore each other's."""


class Model:
    """A loaded model with one input (1, ...) and one output (1, N); threads take turns at it."""

    def __init__(self, flatbuffer: bytes, threads: int = 1, runtime: str | None = None) -> None:
        """Load `flatbuffer`, whose digest the caller has checked, to run on `threads` threads.

        `runtime` is as `required` of `find_runtime`. Raises BadData, MissingPackage.
        """
        check(flatbuffer)
        self.runtime = find_runtime(runtime)
        name = f"{self.runtime.name} {self.runtime.version}"
        with damaged(f"{name} does not load this model"):
            with _stderr_lock, silent_stderr():
                self._interpreter = self.runtime.interpreter(
                    model_content=flatbuffer, num_threads=threads
                )
                self._interpreter.allocate_tensors()
            self._input = self._interpreter.get_input_details()[0]
            self._output = self._interpreter.get_output_details()[0]
            self.input_shape: tuple[int, ...] = tuple(int(n) for n in self._input["shape"])
            self.input_dtype = np.dtype(self._input["dtype"])
            self.input_quantization: tuple[float, int] = self._input["quantization"]
            self.output_width = int(self._output["shape"][-1])
        self._lock = threading.Lock()

    def __call__(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return float32 (N,) for a tensor of `input_shape` and `input_dtype`.

        Raises BadData if the runtime cannot run the model.
        """
        name = f"{self.runtime.name} {self.runtime.version}"
        with self._lock, damaged(f"{name} does not run this model"):
            self._interpreter.set_tensor(self._input["index"], tensor)
            self._interpreter.invoke()
            values = self._interpreter.get_tensor(self._output["index"])[0]
        scale, zero_point = self._output["quantization"]
        if scale:
            values = (values.astype(np.float32) - zero_point) * scale
        return np.asarray(values, np.float32)
