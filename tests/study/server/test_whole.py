"""A study from a table and a set to its results, as its owner and its readers go through it."""

from collections import Counter

from tests.study.phantoms import write_pairs, write_set
from tests.study.server.conftest import Desk
from tests.study.server.test_app import GIVE_AWAY

from vesalius.study.analyse import analyse
from vesalius.study.build import build
from vesalius.study.check import check
from vesalius.study.key import read_trials
from vesalius.study.layout import Layout
from vesalius.study.lock import lock
from vesalius.study.settings import BuildSettings, CheckSettings, DesignSettings

QUICK = CheckSettings(repetitions=1, exchanges=100, replicates=200)
READERS = ("Ann", "Bob", "Eve")


def test_an_unaware_study_from_its_images_to_its_results(tmp_path):
    """What `build` orders, the server asks in that order, says nothing too early, and `analyse` tells apart."""
    pairs, made = write_pairs(tmp_path / "pairs.parquet", 90), write_set(tmp_path / "set", 60)
    design = DesignSettings(
        tasks=("turing", "quality"), trials=20, training=2, fakes=2,
        readers=",".join(READERS), unaware_first=True,
    )  # fmt: skip
    folder = build(pairs, {"mine": made}, tmp_path / "study", BuildSettings(design)).folder
    check(folder, QUICK)
    lock(folder)
    ordered = read_trials(Layout(folder).key_trials)
    desk = Desk(folder)
    for name in READERS:
        own = sorted((t for t in ordered if t.reader == name), key=lambda t: t.position)
        unaware = sum(t.phase == "unaware" for t in own)  # with what is shown twice
        practice = next(k for k, t in enumerate(own) if t.phase == "unaware")
        assert unaware >= 10 and {t.phase for t in own[:practice]} <= {"training"}
        reader = desk.reader(name, arrives=False)
        reader.arrive()
        assert reader.read(practice + unaware - 1) == practice + unaware - 1
        early = [each for each in reader.responses if "image" not in each.headers["content-type"]]
        assert len(early) > unaware and not any(GIVE_AWAY.search(each.text) for each in early)
        assert reader.read() == len(own) - practice - unaware + 1
        assert reader.state()["page"] == "end"
        assert desk.database.reader(id=name).profile["seen_before"] == "never"
    desk.database.close()
    found = analyse(folder).found
    assert [(each.task, each.phase) for each in found] == [
        ("turing", "reading"),
        ("quality", "unaware"),
        ("quality", "reading"),
    ]
    scored = Counter((t.task, t.phase) for t in ordered if t.kind == "scored")
    answers = [figure.n for each in found if (figure := each.get("median seconds"))]
    assert answers == [scored[each.task, each.phase] for each in found]
