"""`retrain watch`: as on a device, and warn if the model is not the run's last one."""

from copy import copy
from functools import partial

from deploy.cli.watch import watch as device_watch
from retrain.cli.label import open_run_model

watch = copy(device_watch)
if device_watch.callback:
    watch.callback = partial(device_watch.callback, opener_of_model=open_run_model)
