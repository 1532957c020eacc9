"""Show text of others, such as labels, names of files and messages of libraries, on a screen.

Kept to what an older Python can read, as `__main__` is.
"""

import sys
import unicodedata

_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Return `text` with each character that could move the cursor or hide written as an escape.

    Escaped are control and format characters (line breaks, ESC, right-to-left marks, zero width),
    and what has no meaning: `\n`, `\x1b`, `\u202e`. A byte of a file name that is not UTF-8 is
    `\xe9`. A joiner stays between two letters or emoji. Escaping twice changes nothing.
    """
    if text.isprintable():
        return text
    neighbours = zip(" " + text, text, text[1:] + " ")  # noqa: B905 (the first is longer by one)
    return "".join(_shown(*each) for each in neighbours)


def hides(label: str) -> bool:
    """Return whether `label` holds control or format characters, which nobody types on purpose."""
    # Letters of a later Unicode, and private ones, are escaped on a screen and are still letters.
    letters = "".join(char for char in label if unicodedata.category(char) not in ("Co", "Cn"))
    return printable(letters) != letters


def say(*lines: str, err: bool = False) -> None:
    """Print each of `lines` on one line of stdout, or of stderr, whatever is in it.

    All text of the program leaves it here, so that no name of a file can forge a line.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None:  # as it is in a program that was started without it
        stream.write("".join(printable(line) + "\n" for line in lines))
        stream.flush()


def say_table(text: str) -> None:
    """Print `text` whose line breaks are its own: a table, of cells that are `printable`."""
    say(*text.split("\n"))


def _shown(before: str, char: str, after: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs" or _joins(before, char, after):
        return char
    if "\udc80" <= char <= "\udcff":  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def _joins(before: str, char: str, after: str) -> bool:
    return char in _JOINERS and all(
        side.isprintable() and not side.isascii() for side in (before, after)
    )
