"""Hold the share of vague names in the code below one percent."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
VAGUE = frozenset(
    {
        "found",
        "told",
        "said",
        "each",
        "made",
        "some",
        "seen",
        "given",
        "asked",
        "kept",
        "wanted",
        "one",
        "others",
        "turn",
        "done",
        "part",
        "now",
        "good",
    }
)
MAX_SHARE = 0.01


def assigned_names(code: str) -> Iterator[str]:
    """Yield each name that `code` assigns, takes as a parameter or defines."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                yield from (alias.asname for alias in aliases if alias.asname)


def vague(names: list[str]) -> list[str]:
    return [name for name in names if name.strip("_").lower() in VAGUE]


def test_vague_names_are_counted() -> None:
    code = "def told(each): _made: int = 1; self.done = 2; [x for some in y]; good = z as_ = 1"
    names = list(assigned_names(code.replace(" as_ = 1", "")))
    assert sorted(vague(names)) == ["_made", "done", "each", "good", "some", "told"]


@pytest.mark.parametrize("folder", ["bench", "deploy", "retrain", "tests"])
def test_names_say_what_they_hold(folder: str) -> None:
    total, places = 0, []
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        names = list(assigned_names(path.read_text("utf-8")))
        total += len(names)
        places += [f"{path.relative_to(REPOSITORY)}: {name}" for name in vague(names)]
    assert total > 100
    assert len(places) / total < MAX_SHARE, "\n".join(places)
