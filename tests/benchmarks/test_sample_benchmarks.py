"""The benchmarks of sampling: their statistics, and a small run from end to end."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.distances import fid

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT)


def test_a_case_is_read_as_it_is_written():
    from benchmarks.sample.cases import Case, parse_cases

    plain, guided = parse_cases("dpm++2m:4,10"), parse_cases("own:10@2.5[0-0.8]~0.7")
    assert plain == [Case("dpm++2m", 4), Case("dpm++2m", 10)]
    assert guided == [Case("", 10, 2.5, (0.0, 0.8), 0.7)]
    assert [case.name for case in plain + guided] == [
        "dpm++2m:4",
        "dpm++2m:10",
        "own:10@2.5[0-0.8]~0.7",
    ]
    assert parse_cases("heun:3")[0].calls == 5


@pytest.mark.parametrize("text", ["dpm++2m", "dpm++2m:", "ddmi:4", "euler:4@", "euler:4[0.2]"])
def test_what_is_no_case_is_refused(text: str):
    from benchmarks.sample.cases import parse_cases

    with pytest.raises(VesaliusError, match=r"not a case|no sampler"):
        parse_cases(text)


def test_figures_without_a_group_are_fid_without_it():
    """The short cut, an eigendecomposition of a part of one matrix, is the FID of the other files."""
    from benchmarks.sample.paired import ToReal

    rng = np.random.default_rng(0)
    real, x = rng.normal(size=(60, 40)), rng.normal(0.2, 1.2, (30, 40))
    groups = np.arange(30) % 3
    figures = ToReal(real).without_each(x, groups)
    expected = [fid(x, real), *(fid(x[groups != k], real) for k in range(3))]
    assert figures == pytest.approx(expected, rel=1e-6)


def test_intervals_hold_the_truth_and_pairing_makes_them_short():
    """If they did not, "loses nothing measurable" would be said of what does lose."""
    from benchmarks.sample.paired import ToReal, estimate, in_groups

    rng, held = np.random.default_rng(0), 0
    to_real, groups = ToReal(rng.normal(size=(300, 6))), in_groups(64)
    alone, paired = [], []
    for _ in range(50):
        x = rng.normal(size=(64, 6))
        worse = x + 0.1 * rng.normal(size=x.shape)  # the same images, drawn a little worse
        others = np.concatenate([x[32:], rng.normal(size=(32, 6))])  # half of them, and as good
        first, second, third = (to_real.without_each(f, groups) for f in (x, worse, others))
        alone.append(estimate(second))
        paired.append(estimate(second - first))
        difference = estimate(third - first)
        held += difference.low <= 0 <= difference.high
    assert 43 <= held <= 50  # of 50 intervals of 95 % about a difference that is 0
    width = [np.mean([e.high - e.low for e in several]) for several in (paired, alone)]
    assert width[0] < width[1] / 3


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_compares_like_with_like(
    tiny_flow: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Days of drawing must not be drawn again, nor cases of unequal N be compared."""
    from benchmarks.sample import steps

    measured: list[int] = []

    def features(images: Iterable[np.ndarray], **_: object) -> np.ndarray:
        rows = [np.concatenate([image.mean((0, 1)), image.std((0, 1))]) for image in images]
        measured.append(len(rows))
        return np.array(rows, np.float32)

    monkeypatch.setattr(steps, "inception_features", features)
    monkeypatch.setattr(steps, "Inception", lambda: None)
    arguments = ["steps", "--pairs", tiny_pairs, "--model", tiny_flow, "--device", "cpu"]
    arguments += ["--cases", "dpm++2m:1,6", "heun:2", "own:3@2[0-0.5]~0.5"]
    arguments += ["--count", 40, "--out", tmp_path]

    def run(*more: object) -> list[dict]:
        monkeypatch.setattr("sys.argv", [str(argument) for argument in [*arguments, *more]])
        steps.main()
        return json.loads((tmp_path / "steps.json").read_text())["figures"]

    with pytest.raises(VesaliusError, match="only 0 images of each case"):
        run("--minutes", 1e-6)
    figures = run()
    assert measured == [50, *[16] * 8, *[8] * 4]
    assert [row["case"] for row in figures] == [
        "dpm++2m:1",
        "dpm++2m:6",
        "heun:2",
        "own:3@2[0-0.5]~0.5",
    ]
    assert {row["N"] for row in figures} == {40}
    assert figures[1]["difference 95 %"] == [0, 0]  # the reference, from itself
    assert figures[0]["difference"] == pytest.approx(figures[0]["FID"] - figures[1]["FID"])
    assert (tmp_path / "steps.png").is_file()

    again = run("--reference", "heun:2")
    assert len(measured) == 13
    assert [row["FID"] for row in again] == [row["FID"] for row in figures]
    assert again[2]["difference"] == 0
