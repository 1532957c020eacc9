"""What may lean on what: the device's half loads little, and `--help` next to nothing."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in ("deploy", "retrain", "bench")
    for path in (REPOSITORY / folder).rglob("*.py")
)
DEVICE_PACKAGES = {"deploy", "click", "numpy", "PIL", "pillow_heif"}
"""The last only where it is installed: it reads HEIC photos."""


def loaded_by(code: str) -> set[str]:
    """Return the names of the top packages that a new Python holds after `code`."""
    report = "import sys, json; json.dump(sorted(sys.modules), sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(process.stderr)}


def imported_by(module: str) -> set[str]:
    """Return the top packages that a file imports anywhere, inside functions too."""
    packages: set[str] = set()
    for node in ast.walk(ast.parse((REPOSITORY / module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: a relative import"
            packages.add(str(node.module).split(".")[0])
    return packages


def of(folder: str) -> list[str]:
    return [module for module in MODULES if module.startswith(f"{folder}/")]


def test_each_folder_is_looked_at() -> None:
    assert {"deploy/cli/__init__.py", "bench/cli.py", "retrain/cli/label.py"} <= set(MODULES)


@pytest.mark.parametrize("module", ["cli", "classifier", "model_file", "image", "runtime"])
def test_device_modules_load_neither_tensorflow_nor_the_laptop_half(module: str) -> None:
    loaded = loaded_by(f"import deploy.{module}")
    assert "deploy" in loaded
    assert loaded.isdisjoint({"tensorflow", "pyarrow", "retrain", "bench"})


def test_the_classifier_is_a_name_of_the_package() -> None:
    assert loaded_by("import deploy").isdisjoint({"numpy", "PIL", "click"})
    assert "numpy" in loaded_by("from deploy import Classifier")


@pytest.mark.parametrize("command", ["['--help']", "['--version']", "['label', '--help']"])
def test_help_loads_neither_numpy_nor_tensorflow(command: str) -> None:
    code = f"from retrain.cli import commands\ntry: commands({command})\nexcept SystemExit: pass"
    loaded = loaded_by(code)
    assert {"click", "retrain"} <= loaded
    assert loaded.isdisjoint({"numpy", "tensorflow", "PIL", "pyarrow", "bench", "rich"})


@pytest.mark.parametrize("command", ["['--help']", "['label', '--help']"])
def test_device_help_loads_no_numpy(command: str) -> None:
    code = f"from deploy.cli import commands\ntry: commands({command})\nexcept SystemExit: pass"
    loaded = loaded_by(code)
    assert "click" in loaded
    assert loaded.isdisjoint({"numpy", "PIL"})


@pytest.mark.parametrize("module", of("deploy"))
def test_device_code_imports_only_what_a_device_has(module: str) -> None:
    assert imported_by(module) <= DEVICE_PACKAGES | sys.stdlib_module_names


@pytest.mark.parametrize("module", of("bench"))
def test_the_bench_imports_nothing_of_retrain(module: str) -> None:
    # Experiments may import everything; they are not in the wheel.
    assert "retrain" not in imported_by(module) or module.startswith("bench/experiments/")


@pytest.mark.parametrize("module", of("retrain"))
def test_only_the_report_and_its_hook_import_the_bench(module: str) -> None:
    may = module.startswith("retrain/report/") or module == "retrain/cli/bench.py"
    assert may or "bench" not in imported_by(module)
