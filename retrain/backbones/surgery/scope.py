"""Keep the names of a foreign graph's nodes apart from those that are added to it.

A node of the file is named SCOPE and its own name; a node that is added never begins with SCOPE.
So a file may use any name, also `input` or `bottleneck`.
"""

SCOPE = "network/"
END = "end"
"""The name of the last node of a subgraph."""


def name_in_file(name: str) -> str:
    """Return the name that the file has for a node or a tensor."""
    return name.removeprefix(SCOPE)
