"""Read numbers that a user types."""

import math
from typing import Any

import click


class Number(click.FloatRange):
    """The type of a finite number in a range; click's own lets NaN pass every range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; fail for NaN, for infinity, and outside the range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number
