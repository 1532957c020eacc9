"""Test which settings of a conversion are refused."""

import pytest

from deploy import goldens
from deploy.errors import WrongUse
from retrain.settings.conversion import MAX_GOLDENS, ConvertSettings


def test_no_more_goldens_than_a_device_reads() -> None:
    assert MAX_GOLDENS == goldens.MAX_GOLDENS
    assert ConvertSettings(goldens=MAX_GOLDENS).goldens == MAX_GOLDENS
    for count in (-1, MAX_GOLDENS + 1):
        with pytest.raises(WrongUse, match=f"`goldens` {count}: 0 to {MAX_GOLDENS}"):
            ConvertSettings(goldens=count)
