"""Show the options of a command in groups, so that a long `--help` can be read."""

from collections.abc import Mapping
from typing import Any

import click

Groups = Mapping[str, tuple[str, ...]]
"""Titles of groups with the names of their options, both in the order in which they are shown."""

GENERAL = {"General": ("--json", "--help")}
_NAME_COLUMNS = 24


class GroupedCommand(click.Command):
    """A command whose help shows its options under the titles of `groups`."""

    def __init__(self, *args: Any, groups: Groups, **extra: Any) -> None:
        """Make a command; an option that is in no group is shown last, under "Other options"."""
        super().__init__(*args, **extra)
        self.groups = groups

    def option_groups(self, ctx: click.Context) -> dict[str, list[click.Option]]:
        """Return the options of each group, by title."""
        options = {
            name: parameter
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            for name in parameter.opts
        }
        grouped = {
            title: [options[name] for name in names if name in options]
            for title, names in self.groups.items()
        }
        placed = [option for members in grouped.values() for option in members]
        ungrouped = [option for option in options.values() if option not in placed]
        return grouped | ({"Other options": list(dict.fromkeys(ungrouped))} if ungrouped else {})

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        for title, options in self.option_groups(ctx).items():
            records = [option.get_help_record(ctx) for option in options]
            # The text names the limits of a number: "RANGE" says nothing more.
            rows = [(names.removesuffix(" RANGE"), text) for names, text in filter(None, records)]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=_NAME_COLUMNS)
