"""Write counts as people read them."""


def with_noun(count: int, noun: str, verb: str = "") -> str:
    """Return a count with its noun: "1 file", "2,000 files", "3 copies".

    `verb` follows, in the form of one and of several things: with "is/are" it is "1 file is".
    """
    if count != 1:
        takes_es = noun.endswith(("s", "x", "sh", "tch"))
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if takes_es else "s")
    one, _, several = verb.partition("/")
    return f"{count:,} {noun}" + (verb and f" {one if count == 1 else several}")
