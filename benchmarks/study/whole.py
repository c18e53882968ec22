"""A whole study: readers of known skill answer it, and `analyse` must give their skill back.

    python -m benchmarks.study.whole --study STUDY --work WORK --out OUT [--http]

STUDY is locked and unanswered, of the task turing at least. It is answered again and again, each time by
readers of one d', and every time the intervals of d', of the criterion and of each reader's own d' are
held against what the readers were made of. A study of few images has wide intervals: what counts is how
often they hold the truth, 95 % of the time, which is why there are several repetitions.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.recording import record, run
from benchmarks.study.answering import answer_all
from benchmarks.study.over_http import answer_over_http
from benchmarks.study.scripted import Skill
from vesalius.statistics.share import Share
from vesalius.study.analyse import analyse
from vesalius.study.results import Found, StudyFigure

CRITERION = 0.2


def main() -> None:
    """Answer and analyse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--d-primes", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--http", action="store_true", help="through the running server")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    settings = parser.parse_args()
    figures = {}
    for d_prime in settings.d_primes:
        answer = answer_over_http if settings.http else answer_all
        figures[f"d' {d_prime:g}"] = found = repeated(settings, d_prime, answer)
        print(f"d' {d_prime:g}: {found}")
    record(settings.out, "whole", figures, {k: str(v) for k, v in vars(settings).items()})


def repeated(
    settings: argparse.Namespace, d_prime: float, answer: Callable[[Path, list[Skill], int], int]
) -> dict[str, Any]:
    """How often the truth was held, and what the first repetition found."""
    held: dict[str, list[bool]] = {"d'": [], "criterion": [], "d' of a reader": [], "shown": []}
    first: dict[str, Any] = {}
    seconds = []
    times, folder = settings.repetitions, settings.work / "study"
    for seed in range(times):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(settings.study, folder)
        skill = Skill(d_prime=d_prime, criterion=CRITERION)
        answer(folder, [skill], seed)
        began = time.monotonic()
        found = next(each for each in analyse(folder).found if each.task == "turing")
        seconds.append(time.monotonic() - began)
        held["d'"].append(holds(found.get("d'"), d_prime))
        held["criterion"].append(holds(found.get("criterion"), CRITERION))
        held["shown"].append(any(s.status == "holds" for s in found.sentences))
        held["d' of a reader"] += [holds(figure, d_prime) for figure in of_readers(found)]
        first = first or told(found)
    shares = {name: share_of(values) for name, values in held.items()}
    return {"first": first, **shares, "seconds": round(sum(seconds) / times, 2)}


def of_readers(found: Found) -> list[StudyFigure]:
    """The d' of each reader."""
    return [
        figure
        for figure in found.figures
        if figure.metric == "d'"
        and figure.place.reader != "all"
        and replace(figure.place, reader="all").pooled
    ]


def told(found: Found) -> dict[str, Any]:
    """Figures of one repetition, as text."""
    names = ("accuracy", "auc", "d'", "criterion")
    return {name: spoken(found.get(name)) for name in names}


def spoken(figure: StudyFigure | None) -> str:
    """Value and interval."""
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return "none"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def holds(figure: StudyFigure | None, truth: float) -> bool:
    """Whether the interval has the truth in it."""
    return bool(
        figure
        and figure.low is not None
        and figure.high is not None
        and figure.low <= truth <= figure.high
    )


def share_of(values: list[bool]) -> str:
    """How many, of how many, with the interval of the share."""
    share = Share(sum(values), len(values))
    low, high = share.interval
    return (
        f"{share.count} of {share.n}, {100 * share.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    )


if __name__ == "__main__":
    run(main)
