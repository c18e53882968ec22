"""Every setting is checked when it is made, before a model is loaded."""

from pathlib import Path

import pytest

from vesalius.errors import VesaliusError
from vesalius.sample.settings import (
    DrawSettings,
    GenerateSettings,
    InpaintSettings,
    InterpolateSettings,
)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (DrawSettings, {"steps": 1001}, "steps is 1001"),
        (DrawSettings, {"guidance": float("inf")}, "guidance is inf"),
        (DrawSettings, {"guidance_rescale": 1.5}, "guidance rescale is 1.5"),
        (DrawSettings, {"guidance_interval": (0.8, 0.2)}, "guidance interval is 0.8 to 0.2"),
        (DrawSettings, {"sampler": "dpm"}, "no sampler is called 'dpm'"),
        (DrawSettings, {"negative": "a" * 3000}, "3,000 characters"),
        (DrawSettings, {"seed": 2**63}, "below 2\\^63"),
        (GenerateSettings, {"n": 0}, "-n is 0"),
        (GenerateSettings, {"strength": 0.5}, "name it by --image"),
        (GenerateSettings, {"image": Path("a"), "strength": 2.0}, "strength is 2.0"),
        (GenerateSettings, {"format": "png16", "bits": 8}, "png16 has 16 bits"),
        (GenerateSettings, {"size": "0"}, "too small"),
        (InterpolateSettings, {"frames": 1001}, "between 2 and 1000"),
        (InterpolateSettings, {"batch_size": 0}, "batch size is 0"),
        (InpaintSettings, {"feather": 257}, "feather is 257"),
        (InpaintSettings, {"n": -1}, "-n is -1"),
    ],
)
def test_a_setting_out_of_range_is_one_line(kind, wrong, message):
    with pytest.raises(VesaliusError, match=message) as told:
        kind(**wrong)
    assert "\n" not in str(told.value)
