"""Who sees what, when and on which side: every reader's trials, a function of seed and reader alone.

Tasks follow each other in a Williams square, so that each is as often before as after each other one.
Within a task the arms are permuted in blocks of changing size. The sides of pairs are balanced within
a reader and reversed for the next. Repeats come a third of the task or more after what they repeat.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vesalius.study.key import KeyTrial, Kind, Phase
from vesalius.study.protocol import UNAWARE_TASKS, Protocol, ReaderEntry, Task

_BLOCKS = (4, 6, 8)  # trials of a block: their number changes, so that nobody can count
LEFT, RIGHT = "left", "right"


@dataclass(frozen=True)
class Case:
    """What a trial shows, whoever reads it."""

    items: tuple[str, ...]  # one image; of a pair the real one, then the other
    arm: str  # of the image, or of the other one of a pair
    kind: Kind
    truth: str = ""  # "" also of pairs, where it depends on the side
    label: str = ""


@dataclass(frozen=True)
class _Shown:
    """A case in its place in a reader's block."""

    case: Case
    kind: Kind
    swapped: bool  # a pair with its first image on the right
    of: int | None = None  # of a repeat, the place in `cases` of what it repeats
    place: int = 0  # of the case among all of its task


def lay_out(protocol: Protocol, cases: Mapping[str, Sequence[Case]]) -> list[KeyTrial]:
    """The trials of all readers, numbered from 1 in their order. `cases` are those of each task."""
    trials: list[KeyTrial] = []
    for number, reader in enumerate(protocol.readers):
        trials += _of_reader(protocol, cases, number, reader, len(trials) + 1)
    return trials


def williams(size: int) -> list[list[int]]:
    """Orders of `size` treatments in which each is as often just after each other one (Williams 1949).

    `size` of them where it is even, twice as many where it is odd.
    """
    first = [0]
    for step in range(1, size):
        first.append((step + 1) // 2 if step % 2 else size - step // 2)
    square = [[(place + row) % size for place in first] for row in range(size)]
    return square if size % 2 == 0 else square + [row[::-1] for row in square]


def _of_reader(
    protocol: Protocol,
    cases: Mapping[str, Sequence[Case]],
    number: int,
    reader: ReaderEntry,
    first: int,
) -> list[KeyTrial]:
    tasks = protocol.tasks_of(reader)
    unaware = [t for t in tasks if protocol.unaware_first and t.task in UNAWARE_TASKS]
    blocks: list[tuple[Task, Phase]] = []
    blocks.extend((t, "unaware") for t in _ordered(unaware, number))
    blocks.extend((t, "reading") for t in _ordered(tasks, number))
    trials: list[KeyTrial] = []
    begun: set[str] = set()
    for task, phase in blocks:
        place = protocol.tasks.index(task)
        turns = _turns(cases[task.task], np.random.default_rng([protocol.seed, place, 7]))
        turns = (turns + number) % 2
        part = _part(cases[task.task], turns, phase, halved=task in unaware)
        rng = np.random.default_rng([protocol.seed, number, place, int(phase == "unaware")])
        shown = _block(part, task, turns, rng)
        if task.task not in begun:
            begun.add(task.task)
            training = [c for c in cases[task.task] if c.kind == "training"]
            before = [_Shown(c, "training", bool(k % 2)) for k, c in enumerate(training)]
            trials += _numbered(before, task, "training", reader.name, first + len(trials), first)
        trials += _numbered(shown, task, phase, reader.name, first + len(trials), first)
    return trials


def _ordered(tasks: Sequence[Task], number: int) -> list[Task]:
    if not tasks:
        return []
    orders = williams(len(tasks))
    return [tasks[k] for k in orders[number % len(orders)]]


def _turns(cases: Sequence[Case], rng: np.random.Generator) -> np.ndarray:
    """0 or 1 for each case (N,), whoever reads: by chance, and even within each arm and its labels."""
    chance = rng.random(len(cases))
    order = sorted(
        range(len(cases)), key=lambda k: (cases[k].kind, cases[k].arm, cases[k].label, chance[k])
    )
    turns = np.zeros(len(cases), int)
    met: dict[tuple[str, str], int] = {}
    for k in order:
        group = cases[k].kind, cases[k].arm
        turns[k] = met[group] = 1 - met.get(group, int(rng.integers(2)))
    return turns


def _part(
    cases: Sequence[Case], turns: np.ndarray, phase: Phase, *, halved: bool
) -> list[tuple[int, Case]]:
    """The cases of one phase, with their places. In halves by `turns`; fakes are for the second."""
    rest = [(k, case) for k, case in enumerate(cases) if case.kind != "training"]
    if not halved:
        return rest
    # a gross fake would give the secret away
    return [
        (k, case)
        for k, case in rest
        if (turns[k] == (phase == "reading") if case.kind == "scored" else phase == "reading")
    ]


def _block(
    cases: Sequence[tuple[int, Case]], task: Task, turns: np.ndarray, rng: np.random.Generator
) -> list[_Shown]:
    """The order of a reader's block: scored cases, then fakes, same pairs and repeats put among them.

    `turns` say which pairs have their first image on the right.
    """
    pair = task.task == "pair"
    shown = [_Shown(c, c.kind, pair and bool(turns[k]), place=k) for k, c in cases]
    scored = [one for one in shown if one.kind == "scored"]
    order = _balanced(scored, rng)
    for extra in (one for one in shown if one.kind != "scored"):
        order.insert(int(rng.integers(min(2, len(order)), len(order) + 1)), extra)
    return _with_repeats(order, math.ceil(task.repeats * len(scored) - 1e-9), rng)


def _balanced(scored: Sequence[_Shown], rng: np.random.Generator) -> list[_Shown]:
    """All of them, in blocks in which each arm has its share; the order is random otherwise."""
    left: dict[str, list[_Shown]] = {}
    for k in rng.permutation(len(scored)):
        left.setdefault(scored[k].case.arm, []).append(scored[k])
    arms = sorted(left)
    order: list[_Shown] = []
    while remaining := sum(map(len, left.values())):
        size = min(int(rng.choice(_BLOCKS)), remaining)
        exact = np.array([size * len(left[arm]) / remaining for arm in arms])
        taken = np.floor(exact + 1e-9).astype(int)
        tie = rng.random(len(arms)) * 1e-6  # equal remainders are settled by chance
        for arm in np.argsort(-(exact - taken + tie))[: size - taken.sum()]:
            taken[arm] += 1
        block = [left[arm].pop() for arm, n in zip(arms, taken, strict=True) for _ in range(n)]
        order += [block[k] for k in rng.permutation(len(block))]
    return order


def _with_repeats(order: Sequence[_Shown], repeats: int, rng: np.random.Generator) -> list[_Shown]:
    """The order with repeats of early scored cases, each a third of the whole or more later."""
    gap = math.ceil((len(order) + repeats) / 3)
    last = min(len(order) // 2, len(order) - gap)
    early = [k for k in range(last + 1) if order[k].kind == "scored"] if last >= 0 else []
    chosen = _spread(early, order, repeats, rng)
    slots: dict[int, list[_Shown]] = {}
    for k in chosen:
        slot = int(rng.integers(k + gap, len(order) + 1))
        slots.setdefault(slot, []).append(replace(order[k], kind="repeat", of=order[k].place))
    mixed: list[_Shown] = []
    for slot in range(len(order) + 1):
        mixed += slots.get(slot, [])
        mixed += order[slot : slot + 1]
    return mixed


def _spread(
    early: Sequence[int], order: Sequence[_Shown], number: int, rng: np.random.Generator
) -> list[int]:
    """So many of the places, from each arm in turn."""
    by_arm: dict[str, list[int]] = {}
    for k in rng.permutation(np.array(early, int)):
        by_arm.setdefault(order[k].case.arm, []).append(int(k))
    arms, chosen = [by_arm[arm] for arm in sorted(by_arm)], []
    while len(chosen) < number and any(arms):
        for places in arms:
            if places and len(chosen) < number:
                chosen.append(places.pop())
    return chosen


def _numbered(
    shown: Sequence[_Shown], task: Task, phase: Phase, reader: str, number: int, first: int
) -> list[KeyTrial]:
    """Trials from `number` on, of a reader whose first trial is `first`."""
    trials: list[KeyTrial] = []
    of_place: dict[int, int] = {}
    for k, one in enumerate(shown):
        trial = number + k
        items = one.case.items[::-1] if one.swapped and len(one.case.items) > 1 else one.case.items
        truth = one.case.truth
        # which image is better has no right answer: practice must not tell which is real
        if task.task == "pair" and task.compare == "realism" and one.case.kind != "same":
            truth = RIGHT if one.swapped else LEFT
        if one.kind not in ("repeat", "training"):
            of_place[one.place] = trial
        repeat_of = of_place[one.of] if one.of is not None else None
        trials.append(KeyTrial(trial, reader, trial - first, task.task, phase, one.kind,
                               repeat_of, ",".join(items), truth))  # fmt: skip
    return trials
