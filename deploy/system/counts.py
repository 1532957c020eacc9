"""Write counts as people read them."""


def with_noun(count: int, noun: str) -> str:
    """Return a count with its noun: "1 file", "2,000 files"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
