"""What a study can show is said before it: by simulation with the functions that will analyse it."""

import json
import time

import pytest
from tests.study.test_protocol import VALUES

from vesalius.errors import VesaliusError
from vesalius.statistics.roe_metz import Population
from vesalius.study.power import BY_AUC, Design, power, power_of
from vesalius.study.protocol import Protocol, write_protocol
from vesalius.study.settings import PowerSettings

QUICK = PowerSettings(simulations=400)


@pytest.mark.parametrize(
    ("readers", "cases", "low", "high"),
    [(2, 100, 0, 0), (3, 100, 0, 0.23), (5, 200, 0.69, 0.87), (8, 150, 0.77, 0.87)],
)
def test_the_power_at_an_auc_of_a_half(readers, cases, low, high):
    """Within a margin of 0.1; 400 studies have a simulation error of 0.02 (one standard error)."""
    found = power_of(Design(BY_AUC, readers, cases, 0.1), Population(), QUICK, "sameness")
    assert low - 0.04 <= found.value <= high + 0.04


@pytest.mark.parametrize("task", ["turing", "pair", "quality", "alignment", "diagnosis"])
def test_more_readers_and_cases_show_more(task):
    small, large = Design(task, 3, 40, 0.1), Design(task, 8, 300, 0.1)
    settings = PowerSettings(simulations=100)
    for goal, truth in (("sameness", Population()), ("difference", Population(0.5))):
        few, many = (power_of(d, truth, settings, goal).value for d in (small, large))
        assert few < 0.6 < 0.85 < many


@pytest.mark.parametrize("task", ["turing", "pair", "quality", "diagnosis"])
def test_what_differs_at_the_margin_is_rarely_called_the_same(task):
    """A difference of d' 1 is far beyond each margin; none is a difference in 5 % at the most, or so."""
    design, settings = Design(task, 5, 100, 0.1), PowerSettings(simulations=200)
    assert power_of(design, Population(1.0), settings, "sameness").value < 0.01
    assert power_of(design, Population(), settings, "difference").value < 0.11


def test_two_readers_can_show_nothing_about_readers_in_general():
    found = power(None, PowerSettings(readers=(1, 2), cases=(100,), simulations=20))
    assert all(row.share.value == 0 for row in found.rows)
    assert "two readers can show nothing about readers in general" in repr(found)


def test_a_study_is_told_what_it_can_show(tmp_path):
    with pytest.raises(VesaliusError, match="no study"):
        power(tmp_path)
    write_protocol(tmp_path / "protocol.yaml", Protocol.model_validate(VALUES))
    said = []
    found = power(tmp_path, PowerSettings(readers=(3,), simulations=20), progress=progress_to(said))
    assert found.planned == {"turing": (2, 100), "quality": (1, 100), "diagnosis": (2, 100)}
    assert said[-1][0] == said[-1][1] == 20 * len(found.rows)
    written = json.loads((tmp_path / "power.json").read_text())
    assert written["sentences"] == found.sentences
    assert written["rows"][0]["power"]["n"] == 20
    assert found.get("turing", "sameness", 2, 100) == 0
    with pytest.raises(KeyError):
        found.get("pair", "sameness", 3, 100)


def progress_to(said):
    from contextlib import contextmanager

    @contextmanager
    def progress(what):
        yield lambda done, total: said.append((done, total))

    return progress


def test_a_thousand_studies_take_seconds():
    start = time.process_time()
    power_of(Design("turing", 8, 150, 0.1), Population(), PowerSettings(), "sameness")
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"tasks": ("reading",)},
        {"readers": (0,)},
        {"cases": (4,)},
        {"margin": 0.5},
        {"detect": 0.0},
        {"cases_differ": 1.5},
        {"simulations": 1},
    ],
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(VesaliusError):
        PowerSettings(**wrong)


def test_the_command(run_cli):
    code, out, _ = run_cli(
        "study", "power", "--readers", "2,5", "--cases", "40", "--simulations", "20"
    )
    assert code == 0 and "5 readers" not in out.splitlines()[0]
    assert "probability to show sameness within 0.1" in out
    assert run_cli("study", "power", "--readers", "0")[0] == 2
    assert run_cli("study", "power", "no-such-folder")[0] == 2
