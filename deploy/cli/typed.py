"""Tell what a user typed from what is a default."""

from collections.abc import Iterable

import click
from click.core import ParameterSource


def typed(names: Iterable[str]) -> list[str]:
    """Return those of the parameters `names` of the running command that the user set."""
    ctx = click.get_current_context()
    return [name for name in names if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT]
