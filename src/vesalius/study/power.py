"""What can so many readers and cases show? Studies are drawn, and analysed as `analyse` does it.

The model is that of Roe and Metz (`statistics/roe_metz.py`). Two questions are asked of each task:

    sameness     the truth is that the arms do not differ: how often is that shown, by the margin?
    difference   the truth is a difference of d': how often does the 95 % interval exclude none?

An answer counts where it is one for readers in general. Fewer than three readers give none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import special

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path
from vesalius.core.callable_room import callable_as
from vesalius.core.documents import write_document
from vesalius.core.progress import Count, Progress, no_progress
from vesalius.statistics.equivalence import equivalence, non_inferiority
from vesalius.statistics.readers import LEAST_READERS, ByReader, Estimate, auc, means, over_readers
from vesalius.statistics.roe_metz import Population, levels
from vesalius.statistics.share import Share
from vesalius.study.layout import open_study
from vesalius.study.protocol import read_protocol
from vesalius.study.settings import PowerSettings

callable_as(__name__, f"{__name__}:power")

READERS, CASES, MARGIN = (3, 5, 8), (50, 100, 200), 0.1
ENOUGH = 0.8  # the power that studies are planned for
_BASE = 0.8  # share of right diagnoses of real images
_RATINGS = (-1.5, -0.75, 0.0, 0.75)  # where a rating of 1 ends, of 2, 3 and 4
_SPAN = 4  # points from 1 to 5: the margin is a share of it
BY_AUC = "turing, AUC"
Goal = Literal["sameness", "difference"]


@dataclass(frozen=True)
class Design:
    """One study to be: how many readers and cases, of what task, against what margin."""

    task: str
    readers: int
    cases: int
    margin: float


@dataclass(frozen=True)
class Power:
    """The share of drawn studies that reach their goal."""

    design: Design
    goal: Goal
    share: Share


@dataclass(frozen=True)
class PowerTable:
    """The result of `power`: a share for each task, goal, number of readers and of cases."""

    rows: tuple[Power, ...]
    settings: PowerSettings
    planned: Mapping[
        str, tuple[int, int]
    ]  # readers and cases of each task of the study, if there is one

    def get(self, task: str, goal: Goal, readers: int, cases: int) -> float:
        """One share. Raises KeyError where it was not asked for."""
        for row in self.rows:
            design = row.design
            if (design.task, row.goal, design.readers, design.cases) == (
                task,
                goal,
                readers,
                cases,
            ):
                return row.share.value
        raise KeyError((task, goal, readers, cases))

    @property
    def sentences(self) -> list[str]:
        """What it means, of the study as planned, or of the smallest that is enough."""
        said: list[str] = []
        for task in dict.fromkeys(row.design.task for row in self.rows):
            said += self._of_task(task)
        return said

    def _of_task(self, task: str) -> list[str]:
        same = [r for r in self.rows if r.design.task == task and r.goal == "sameness"]
        enough = [r.design for r in same if r.share.value >= ENOUGH]
        said: list[str] = []
        if numbers := self.planned.get("turing" if task == BY_AUC else task):
            readers, cases = numbers
            sameness, difference = (
                self.get(task, g, readers, cases) for g in ("sameness", "difference")
            )
            said.append(
                f"{task}: {readers} readers and {cases} cases show sameness, where it is true, with a "
                f"probability of {sameness:.2f}, and a difference of d' {self.settings.detect:g} with "
                f"{difference:.2f}."
            )
            if readers < LEAST_READERS:
                said[-1] = f"{task}: {_few(readers)}"
        elif few := [r.design.readers for r in same if r.design.readers < LEAST_READERS]:
            said.append(f"{task}: {_few(max(few))}")
        if enough:
            least = min(enough, key=lambda d: (d.readers * d.cases, d.readers))
            said.append(
                f"{task}: of these, {least.readers} readers and {least.cases} cases are the least that "
                f"show sameness with a probability of {ENOUGH:g}."
            )
        else:
            said.append(
                f"{task}: none of these shows sameness with a probability of {ENOUGH:g}: plan more "
                "readers or cases, or do not ask for sameness."
            )
        return said

    def __repr__(self) -> str:
        lines: list[str] = []
        for task in dict.fromkeys(row.design.task for row in self.rows):
            lines += self._table(task)
        return "\n".join([*lines, *self.sentences])

    def _table(self, task: str) -> list[str]:
        rows = [row for row in self.rows if row.design.task == task]
        cases = sorted({row.design.cases for row in rows})
        lines = []
        for goal in ("sameness", "difference"):
            margin = rows[0].design.margin
            of = f"within {margin:g}" if goal == "sameness" else self._difference(task)
            what = goal if goal == "sameness" else "a difference"
            lines.append(f"{task}: probability to show {what} {of}")
            lines.append(f"{'readers':>9}" + "".join(f"{f'{n} cases':>11}" for n in cases))
            for readers in sorted({row.design.readers for row in rows}):
                cells = [f"{self.get(task, goal, readers, n):>11.2f}" for n in cases]
                lines.append(f"{readers:>9}" + "".join(cells))
            lines.append("")
        return lines

    def _difference(self, task: str) -> str:
        said = f"of d' {self.settings.detect:g}"
        truth = _truth(self.settings, self.settings.detect)
        return f"{said} (accuracy {truth.accuracy:.2f})" if task == "turing" else said

    def as_dict(self) -> dict[str, Any]:
        """For power.json."""
        return {
            "format": 1,
            "version": __version__,
            "settings": asdict(self.settings),
            "planned": {name: list(numbers) for name, numbers in self.planned.items()},
            "rows": [
                {**asdict(row.design), "goal": row.goal, "power": row.share.as_dict()}
                for row in self.rows
            ],
            "sentences": self.sentences,
        }


def power(
    folder: Path | str | None = None,
    settings: PowerSettings | None = None,
    *,
    progress: Progress = no_progress,
) -> PowerTable:
    """What the study in `folder` can show, or without one any study; of a study, power.json is written.

    Raises VesaliusError where `folder` is no study.
    """
    settings = settings or PowerSettings()
    layout = open_study(folder) if folder is not None else None
    planned, margins = {}, dict.fromkeys(settings.tasks or ("turing",), MARGIN)
    if layout:
        protocol = read_protocol(layout.protocol)
        chosen = [t for t in protocol.tasks if not settings.tasks or t.task in settings.tasks]
        margins = {task.task: task.margin for task in chosen} or margins
        for task in chosen:
            readers = sum(task in protocol.tasks_of(reader) for reader in protocol.readers)
            planned[task.task] = (readers, max(8, task.trials))
    designs = [
        Design(
            BY_AUC if settings.auc and task == "turing" else task,
            readers,
            cases,
            settings.margin or margin,
        )
        for task, margin in margins.items()
        for readers, cases in _sizes(settings, planned.get(task))
    ]
    with progress("studies drawn") as count:
        rows = tuple(_rows(designs, settings, count))
    table = PowerTable(rows, settings, planned)
    if layout:
        with atomic_path(layout.power) as temporary:
            write_document(temporary, table.as_dict())
    return table


def power_of(design: Design, population: Population, settings: PowerSettings, goal: Goal) -> Share:
    """How often a study of `design` reaches `goal` where the truth is `population`."""
    if design.readers < LEAST_READERS:
        return Share(0, settings.simulations)
    rng, task = np.random.default_rng(settings.seed), _TASKS[design.task]
    reached = 0
    for _ in range(settings.simulations):
        found = over_readers(task.figures(population, design, rng))
        if goal == "sameness":
            reached += task.same(found, design.margin)
        else:
            reached += not found.low <= task.null <= found.high
    return Share(reached, settings.simulations)


def _few(readers: int) -> str:
    said = "one reader" if readers == 1 else "two readers"
    return f"{said} can show nothing about readers in general: it takes three at the least."


def _sizes(settings: PowerSettings, planned: tuple[int, int] | None) -> list[tuple[int, int]]:
    readers = set(settings.readers or READERS) | ({planned[0]} if planned else set())
    cases = set(settings.cases or ((planned[1],) if planned else CASES))
    cases |= {planned[1]} if planned else set()
    return [(r, c) for r in sorted(readers) for c in sorted(cases)]


def _truth(settings: PowerSettings, d_prime: float) -> Population:
    return Population(d_prime, settings.readers_differ, settings.cases_differ)


def _rows(designs: Sequence[Design], settings: PowerSettings, count: Count) -> list[Power]:
    truths: dict[Goal, Population] = {
        "sameness": _truth(settings, 0.0),
        "difference": _truth(settings, settings.detect),
    }
    rows, total = [], len(designs) * len(truths) * settings.simulations
    for design in designs:
        for goal, truth in truths.items():
            rows.append(Power(design, goal, power_of(design, truth, settings, goal)))
            count(len(rows) * settings.simulations, total)
    return rows


@dataclass(frozen=True)
class _Task:
    """How one study of a task is drawn and judged."""

    figures: Callable[[Population, Design, np.random.Generator], ByReader]
    same: Callable[[Estimate, float], bool]
    null: float  # the figure where there is no difference


def _arms(cases: int) -> np.ndarray:
    return np.arange(cases) >= cases // 2


def _turing(truth: Population, design: Design, rng: np.random.Generator) -> ByReader:
    return means(truth.draw(design.readers, _arms(design.cases), rng).correct(0.0))


def _turing_auc(truth: Population, design: Design, rng: np.random.Generator) -> ByReader:
    return auc(levels(truth.draw(design.readers, _arms(design.cases), rng)))


def _pair(truth: Population, design: Design, rng: np.random.Generator) -> ByReader:
    """Two images differ by d' sqrt(2) for the reader who sees both: half of it on either side of 0."""
    apart = replace(truth, d_prime=np.sqrt(2) * truth.d_prime)
    seen = apart.draw(design.readers, np.ones(design.cases, bool), rng)
    return means(seen.decisions(0.0), (0, 1))


def _rating(truth: Population, design: Design, rng: np.random.Generator) -> ByReader:
    """Synthetic images are worse by d': the mean rating's difference."""
    worse = replace(truth, d_prime=-truth.d_prime)
    rated = levels(worse.draw(design.readers, _arms(design.cases), rng), _RATINGS)
    return means(rated, (-1, 1), bounds=(-_SPAN, _SPAN))


def _diagnosis(truth: Population, design: Design, rng: np.random.Generator) -> ByReader:
    """Labels are seen less well in synthetic images, by d': the difference of shares of right ones."""
    worse = replace(truth, d_prime=-truth.d_prime)
    base = float(special.ndtri(_BASE)) * np.sqrt(1 + truth.readers)
    seen = worse.draw(design.readers, _arms(design.cases), rng)
    return means(seen.decisions(truth.d_prime / 2 - base), (-1, 1), bounds=(-1, 1))


_TASKS = {
    "turing": _Task(_turing, lambda e, margin: equivalence(e, 0.5, margin).shown, 0.5),
    BY_AUC: _Task(_turing_auc, lambda e, margin: equivalence(e, 0.5, margin).shown, 0.5),
    "pair": _Task(_pair, lambda e, margin: equivalence(e, 0.5, margin).shown, 0.5),
    "quality": _Task(_rating, lambda e, margin: non_inferiority(e, _SPAN * margin).shown, 0.0),
    "alignment": _Task(_rating, lambda e, margin: non_inferiority(e, _SPAN * margin).shown, 0.0),
    "diagnosis": _Task(_diagnosis, lambda e, margin: non_inferiority(e, margin).shown, 0.0),
}
