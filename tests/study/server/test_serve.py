"""`vesalius study serve` and `status` on the command line."""

import re

import pytest
from benchmarks.study.drawn import SmallStudy, small_study
from benchmarks.study.served import Served

from vesalius.study.server import times
from vesalius.study.server.times import Durations, settle


@pytest.fixture
def folder(tmp_path):
    return small_study(tmp_path / "study", SmallStudy(tasks=("turing",)))


def test_status_and_new_link(folder, run_cli):
    code, out, _ = run_cli("study", "status", folder)
    assert code == 0
    assert re.search(r"R1 +no link yet +0 of 4", out)
    code, out, _ = run_cli("study", "serve", folder, "--new-link", "R2", "--port", 9000)
    assert code == 0
    assert re.search(r"R2 +http://127.0.0.1:9000/r/[\w-]{43}$", out.strip())
    assert re.search(r"R2 +link given", run_cli("study", "status", folder)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "lets other machines in: give --certificate and --key"),
        (("--certificate", "none.pem"), "belong together"),
        (("--new-link", "R7"), "the study has no reader R7: choose of R1, R2"),
    ],
)
def test_bad_options_are_one_line(folder, run_cli, options, message):
    code, _, err = run_cli("study", "serve", folder, *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [("status",), ("serve", "--new-link", "R1")])
def test_a_study_without_its_database_says_what_is_next(folder, run_cli, command):
    (folder / "study.sqlite").unlink()
    code, _, err = run_cli("study", command[0], folder, *command[1:])
    assert code == 2
    assert re.fullmatch(r"error: .*study is not locked: run `vesalius study lock` first\n", err)


def test_other_folders_are_one_line(folder, run_cli, tmp_path):
    code, _, err = run_cli("study", "serve", tmp_path)
    assert (code, "is no study" in err) == (2, True)
    (folder / "protocol.lock.json").unlink()
    code, _, err = run_cli("study", "serve", folder, "--port", 0)
    assert (code, "is not locked: run `vesalius study lock" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.ci
def test_links_are_printed_once_and_the_server_ends_quietly(folder, run_cli):
    served = Served(folder)
    assert list(served.links) == ["R1", "R2"]
    assert served.stop() == 0
    assert re.search(r"R1 +link given", run_cli("study", "status", folder)[1])


@pytest.mark.parametrize(
    ("measured", "shown", "submitted", "visible", "flawed"),
    [
        (Durations(2000, 1500, 500), 97.5, 99.5, 1500, False),
        (Durations(0, 0, 0), 100, 100, 0, False),
        (Durations(-1, 1500, 500), None, 99.5, 1500, True),
        (Durations(2000, 3001, 500), 97.5, 99.5, None, True),
        (Durations(2000, -5, 500), 97.5, 99.5, None, True),
        (Durations(2000, 1500, -500), None, None, 1500, True),
        (Durations(float("nan"), float("inf"), None), None, None, None, True),
        (Durations(times.LONGEST_TRIAL_MS + 1, 1, 1), None, 99.999, 1, True),
    ],
)
def test_times_are_counted_back_from_the_arrival(measured, shown, submitted, visible, flawed):
    settled = settle(100.0, measured)
    assert settled.shown_at == (None if shown is None else pytest.approx(shown))
    assert settled.submitted_at == (None if submitted is None else pytest.approx(submitted))
    assert settled.visible_ms == visible
    assert bool(settled.flaws) == flawed
