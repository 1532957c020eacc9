"""Write the tables of docs/measurements from saved results: `python -m bench.experiments.pages`.

A page holds its own text, and each table between two comments: `<!-- table: NAME -->` and
`<!-- end -->`. What is between them is replaced.
"""

import re
from pathlib import Path

import click

from bench.experiments.shared import run
from bench.experiments.tables import TABLES
from deploy import files
from deploy.errors import BadData, GateFailed
from deploy.system.terminal import say

PAGES = Path(__file__).parents[2] / "docs" / "measurements"
_TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 4 if a page is out of date.")
def main(check: bool) -> None:
    """Write the tables of docs/measurements from the results under bench/experiments/results."""
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text("utf-8")
        new = fill(text)
        if new == text:
            continue
        if check:
            raise GateFailed(f"{page}: out of date: run `python -m bench.experiments.pages`")
        files.write(page, new)
        say(f"Written: {page}")


def fill(text: str) -> str:
    """Return the text of a page with each of its tables made anew."""

    def replace(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in TABLES:
            raise BadData(f"no table {name}: there are {', '.join(TABLES)}")
        return f"{begin}\n{TABLES[name]()}\n\n{end}"

    return _TABLE.sub(replace, text)


if __name__ == "__main__":
    run(main)
