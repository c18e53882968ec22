"""Interpolation: its ends are the prompts alone, and its animation shows the way between."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from vesalius.core.manifest import read_manifest
from vesalius.errors import VesaliusError
from vesalius.images.provenance import read_provenance
from vesalius.sample.interpolate import gif, interpolate, interpolate_to_folder
from vesalius.sample.settings import InterpolateSettings

HEALTHY, ILL = "a chest x-ray", "lung nodule"


def arrays(samples):
    return [np.asarray(sample.image).astype(int) for sample in samples]


def test_the_ends_are_the_prompts_alone(each_kind):
    settings = InterpolateSettings(frames=4, seed=9, guidance=30.0)
    frames = arrays(interpolate(each_kind, HEALTHY, ILL, settings))
    for prompt, end in ((HEALTHY, frames[0]), (ILL, frames[-1])):
        alone = arrays(each_kind.generate(prompt, seed=9, guidance=30.0))[0]
        assert np.ptp(alone) > 20
        assert np.abs(alone - end).max() <= 1
    assert np.abs(frames[0] - frames[-1]).max() > 1  # or any way would do
    steps = [np.abs(a - b).mean() for a, b in pairwise(frames)]
    assert max(steps) < np.abs(frames[0] - frames[-1]).mean() * 0.75  # no leap


def test_a_way_is_written_with_its_strip_and_animation(flow, tmp_path):
    settings = InterpolateSettings(frames=4, seed=2)
    for name in ("one", "two"):
        made = interpolate_to_folder(HEALTHY, ILL, tmp_path / name, settings, model=flow)
    rows = made.rows
    assert 'src="data:image/jpeg' in made._repr_html_()
    out = tmp_path / "one"
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{k:05d}.png" for k in range(4)), "interpolation.gif", "manifest.jsonl", "strip.png",
    ]  # fmt: skip
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert read_manifest(out / "manifest.jsonl") == rows
    assert [row["share"] for row in rows] == [0, 0.333333, 0.666667, 1]
    assert {row["seed"] for row in rows} == {2}
    assert rows[1]["prompt"] == f"{HEALTHY}:0.6667 AND {ILL}:0.3333"
    with Image.open(out / "interpolation.gif") as animation:
        assert (getattr(animation, "n_frames", 1), animation.size) == (4, (32, 32))
        assert b"SYNTHETIC" in animation.info["comment"]
    assert read_provenance(out / "strip.png")["synthetic"] == "true"


def test_an_animation_shows_the_frames():
    images = [Image.new("RGB", (32, 32), (k * 80, 0, 0)) for k in range(3)]
    with Image.open(io.BytesIO(gif(images, "told"))) as animation:
        for k in range(3):
            animation.seek(k)
            assert animation.convert("RGB").getpixel((5, 5)) == pytest.approx((k * 80, 0, 0), abs=4)


@pytest.mark.parametrize(
    ("first", "frames", "message"),
    [
        (f"{HEALTHY} AND effusion", 4, "is composed already"),
        (HEALTHY, 1, "frames is 1: it must be between 2 and 1000"),
        (" ", 4, "prompt is empty"),
    ],
)
def test_no_way_is_told_before_a_model_is_loaded(tmp_path, first, frames, message):
    with pytest.raises(VesaliusError, match=message):
        settings = InterpolateSettings(frames=frames, model="no such model")
        interpolate_to_folder(first, ILL, tmp_path / "out", settings)
    assert not list(tmp_path.iterdir())
