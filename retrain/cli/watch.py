"""`retrain watch`: as on a device, but it warns first if the model is not the run's last one."""

from copy import copy
from typing import Any

import click

from deploy.cli.watch import watch as device_watch
from retrain.cli.label import warn_of_old_model


def _watch(**options: Any) -> None:
    warn_of_old_model(options["model"])
    click.get_current_context().invoke(device_watch, **options)


watch = copy(device_watch)
watch.callback = _watch
