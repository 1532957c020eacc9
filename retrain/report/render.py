"""Render a report as one self-contained page."""

import base64
import hashlib
from functools import partial
from importlib import resources

from deploy.system.terminal import printable
from retrain.metrics import Accuracy
from retrain.report.page_values import Report
from retrain.settings.training import TrainSettings
from retrain.stored_settings import settings_to_options

_FILES = resources.files("retrain.report") / "page"


def render(report: Report) -> str:
    """Return the page in HTML. It loads nothing, and its policy lets it load nothing."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters.update(
        printable=printable, options=partial(settings_to_options, kind=TrainSettings)
    )
    script, style = _read("page.js"), _read("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Plots have their colours in attributes `style`, for which no digest serves.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return environment.from_string(_read("page.html.jinja")).render(
        report=report,
        verdict=verdict(report.accuracy),
        interval=interval(report.accuracy),
        sections=_sections(report),
        data=report.book.to_json(),
        policy=policy,
        script=script,
        style=style,
    )


def verdict(accuracy: Accuracy) -> str:
    """Return the accuracy in words."""
    if accuracy.right == accuracy.total == 1:
        return "The only test photo is right"
    if accuracy.right == accuracy.total:
        return f"All {accuracy.total} test photos right"
    return f"About {100 * accuracy.value:.0f} in 100 photos right"


def interval(accuracy: Accuracy) -> str:
    """Return the 95% interval in words."""
    low, high = accuracy.interval
    return f"{100 * low:.0f} to {100 * high:.0f}"


def _sections(report: Report) -> list[tuple[str, str]]:
    """Return the sections of the page: anchor and name."""
    return [
        ("next", "What to do next"),
        *([("changes", "Before and after")] if report.changes else []),
        ("classes", "Classes"),
        ("wrong", "Misclassified"),
        ("looks", "What it looks at"),
        ("sure", "How sure it is"),
        *([("agreement", "Graph and model")] if report.disagreement else []),
        ("training", "Training"),
        ("photos", "Photos"),
        ("findings", "Doctor"),
        ("speed", "Speed"),
        ("settings", "Settings"),
    ]


def _read(name: str) -> str:
    return (_FILES / name).read_text("utf-8")
