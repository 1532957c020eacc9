"""Write the reference of a click program into a page, as an extension of Python-Markdown.

The line `::: click retrain.cli:commands retrain` becomes a section for each command, with its help
text, its usage, and every option in the group that `--help` shows it in. Each option has an
anchor: `#retrain-train-optimizer`.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import click
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

_DIRECTIVE = re.compile(r"::: click ([\w.]+):(\w+) (.+)")
_BEFORE_FENCES = 141


class ClickReference(Extension):
    """The extension, as `mkdocs.yml` names it."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Markdown's name)
        """Register the preprocessor."""
        md.preprocessors.register(_ClickPreprocessor(md), "click_reference", _BEFORE_FENCES)


class _ClickPreprocessor(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return [new for line in lines for new in _expand(line)]


def _expand(line: str) -> Iterator[str]:
    match = _DIRECTIVE.fullmatch(line)
    if not match:
        yield line
        return
    module, name, program = match.groups()
    group = getattr(importlib.import_module(module), name)
    ctx = click.Context(group, info_name=program, **group.context_settings)
    yield from _describe(group, ctx, depth=2)


def _describe(command: click.Command, ctx: click.Context, depth: int) -> Iterator[str]:
    """Yield the Markdown of a command and of the commands in it, in the order of its help."""
    path = ctx.command_path
    yield from (f"{'#' * depth} {path} {{#{_anchor(path)}}}", "")
    yield from _help_text(command)
    yield from ("```text", f"{path} {' '.join(command.collect_usage_pieces(ctx))}", "```", "")
    for title, options in _groups(command, ctx).items():
        yield from (f"**{title}**", "")
        for option in options:
            names, text = option.get_help_record(ctx) or ("", "")
            anchor = _anchor(f"{path} {max(option.opts, key=len)}")
            yield from (
                f"`{names.removesuffix(' RANGE')}`{{#{anchor}}}",
                f":   {_escape(text)}",
                "",
            )
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            member = command.get_command(ctx, name)
            assert member  # noqa: S101 (it is in the list)
            inner = click.Context(member, info_name=name, parent=ctx)
            yield from _describe(member, inner, depth + (depth < 3))


def _help_text(command: click.Command) -> Iterator[str]:
    r"""Yield the paragraphs of the help text; one that begins with \b keeps its lines."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ("```sh", *paragraph.split("\n")[1:], "```", "")
        else:
            yield from (_escape(paragraph), "")


def _groups(command: click.Command, ctx: click.Context) -> dict[str, list[Any]]:
    if hasattr(command, "option_groups"):
        groups: dict[str, list[Any]] = command.option_groups(ctx)
        return groups
    options = [item for item in command.get_params(ctx) if isinstance(item, click.Option)]
    return {"Options": options}


def _anchor(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text).strip("-")


def _escape(text: str) -> str:
    """Return `text` with the characters that mean something in Markdown, except in backquotes."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_\[\]])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def makeExtension(**settings: Any) -> Extension:  # noqa: N802 (Markdown's name)
    """Return the extension."""
    return ClickReference(**settings)
