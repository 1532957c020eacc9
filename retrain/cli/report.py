"""`retrain report`: write the page that shows a run."""

import json
from pathlib import Path

import click

from deploy.system.terminal import say
from retrain.cli.options import json_option, output_dir_option, progress


@click.command()
@output_dir_option
@json_option
def report(output_dir: Path, as_json: bool) -> None:
    """Write report.html: how good the model is, what it looks at, and which photos to mend.

    `train`, `convert` and `bench` write it too. The page is one file, which any browser opens.
    """
    from retrain.report.write_report import write_report
    from retrain.run_folder import RunFolder

    stages = progress()
    path = write_report(RunFolder(output_dir), stages)
    if as_json:
        say(json.dumps({"schema": 1, "report": str(path), "seconds": stages.seconds}))
    else:
        say(f"Written to {path}")
