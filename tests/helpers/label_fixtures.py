"""Run `label`, and read what it prints."""

import json

import click
from click.testing import CliRunner, Result


def label(group: click.Group, *arguments: object) -> Result:
    return CliRunner().invoke(group, ["label", *map(str, arguments)])


def assert_failed(result: Result, code: int, *words: str) -> None:
    """Check the exit code, and that the last line is an error with these words."""
    assert result.exit_code == code, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert [word for word in words if word not in last] == []


def best_labels(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [line["labels"][0] for line in lines]


def shown_scores(result: Result) -> dict[str, float]:
    """Return the score of each label that the text output shows for one photo."""
    assert result.exit_code == 0, result.output
    lines = [line.split("%", 1) for line in result.stdout.splitlines()[1:]]
    return {name.strip(): float(score) / 100 for score, name in lines}
