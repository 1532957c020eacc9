"""Print text that others chose, such as labels and names of files, safely on a terminal.

An older Python can parse this file, as `__main__` needs it.
"""

import sys
import unicodedata
from collections.abc import Collection, Sequence

_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Return `text` with each character that could move the cursor or hide written as an escape.

    Control and format characters (line breaks, ESC, right-to-left marks, zero width) and unassigned
    ones are escaped: `\n`, `\x1b`, `\u202e`. A byte of a file name that is not UTF-8 becomes
    `\xe9`. A joiner between two letters or emoji stays. Escaping twice changes nothing.
    """
    if text.isprintable():
        return text
    neighbours = zip(" " + text, text, text[1:] + " ")  # noqa: B905 (the first is longer by one)
    return "".join(_escape(*characters) for characters in neighbours)


def hides(label: str) -> bool:
    """Return whether `label` holds control or format characters."""
    # Letters of a later Unicode and private ones are escaped when printed, but allowed in a label.
    letters = "".join(char for char in label if unicodedata.category(char) not in ("Co", "Cn"))
    return printable(letters) != letters


def say(*lines: str, err: bool = False) -> None:
    """Print each of `lines` on one line of stdout, or of stderr, with `printable` characters.

    The program prints all text with this function, so that no name of a file can forge a line.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None:  # None in a program without a console
        stream.write("".join(printable(line) + "\n" for line in lines))
        stream.flush()


def say_table(text: str) -> None:
    """Print a table, whose lines are those of `text`."""
    say(*text.split("\n"))


def align(rows: "Sequence[Sequence[str]]", text_columns: "Collection[int]") -> "list[str]":
    """Return a line for each of `rows`, whose columns are as wide as their widest cell.

    Columns of the numbers in `text_columns` are aligned left, the others, of figures, right.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]  # noqa: B905 (older Pythons)
    return [
        "  ".join(
            cell.ljust(widths[i]) if i in text_columns else cell.rjust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def _escape(before: str, char: str, after: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs" or _joins(before, char, after):
        return char
    if "\udc80" <= char <= "\udcff":  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def _joins(before: str, char: str, after: str) -> bool:
    return char in _JOINERS and all(
        side.isprintable() and not side.isascii() for side in (before, after)
    )
