"""Test which settings of a conversion are refused."""

import pytest

from deploy.errors import WrongUse
from deploy.untrusted_files import MAX_GOLDENS
from retrain.settings.conversion import ConvertSettings


def test_no_more_goldens_than_a_device_reads() -> None:
    assert ConvertSettings(goldens=MAX_GOLDENS).goldens == MAX_GOLDENS
    for count in (-1, MAX_GOLDENS + 1):
        with pytest.raises(WrongUse, match=f"`goldens` {count}: 0 to {MAX_GOLDENS}"):
            ConvertSettings(goldens=count)


@pytest.mark.parametrize(("name", "value"), [("calibration_images", 0), ("seed", -1)])
def test_nonsense_is_refused_by_setting(name: str, value: int) -> None:
    with pytest.raises(WrongUse, match=f"^`{name}`: must be .*, not {value}$"):
        ConvertSettings(**{name: value})  # type: ignore[arg-type]
