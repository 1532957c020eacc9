"""Where a classifier is cut: before its last dense layer, if only scores are made of its output."""

from collections.abc import Callable
from typing import TypeVar

Tensor = TypeVar("Tensor", int, str)


def before_dense(
    output: Tensor,
    dense: Callable[[Tensor], Tensor | None],
    scores: Callable[[Tensor], Tensor | None],
) -> Tensor:
    """Return what feeds the dense layer that `output` is the scores of, else `output` itself.

    `dense` returns what a tensor is a dense layer of, `scores` what it is the scores of, or the
    same numbers in another form; both return None for what is made otherwise. A dense layer inside
    the network, such as a gate's, is none of these, nor is one of several heads.
    """
    end, seen = output, {output}
    while (fed := dense(end)) is None:
        before = scores(end)
        if before is None or before in seen:  # a damaged file may have a loop
            return output
        seen.add(end := before)
    return fed
