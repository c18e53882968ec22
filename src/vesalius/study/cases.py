"""What the trials of each task show: matched images, gross fakes, real-real pairs, training cases."""

from collections.abc import Mapping, Sequence

import numpy as np

from vesalius.study.design import Case
from vesalius.study.draw import Drawn, Unit
from vesalius.study.key import FAKE, REAL, Kind
from vesalius.study.pictures import Source, source_of
from vesalius.study.protocol import Protocol, Task

Names = Mapping[Source, str]  # of the image files


def make_cases(
    protocol: Protocol, drawn: Drawn, units: Mapping[str, Sequence[Unit]], names: Names
) -> dict[str, list[Case]]:
    """The cases of each task; `units` are the matched images that it scores."""
    made = {}
    for number, task in enumerate(protocol.tasks):
        some = units[task.task]
        training = drawn.training if protocol.training else []
        rng = np.random.default_rng([protocol.seed, number, 6])
        if task.task == "pair":
            pairs = [_pair(unit, "scored", names) for unit in some]
            shown = [_pair(unit, "training", names) for unit in training]
            cases = [*pairs, *_fakes_of_pairs(task, drawn, names), *_same(drawn, names)]
            shown = shown[: max(1, protocol.training // 2)]
        else:
            cases = [case for unit in some for case in _singles(task, unit, "scored", names)]
            shown = [case for unit in training for case in _singles(task, unit, "training", names)]
            shown = shown[: protocol.training]
            cases += _fakes(task, drawn, names)
        made[task.task] = cases + [shown[k] for k in rng.permutation(len(shown))]
    return made


def _pair(unit: Unit, kind: Kind, names: Names) -> Case:
    both = names[source_of(unit.real)], names[source_of(unit.other)]
    return Case(both, unit.other.arm, kind, label=unit.real.label)


def _singles(task: Task, unit: Unit, kind: Kind, names: Names) -> list[Case]:
    """The real image and the other one, each in a trial of its own."""
    return [
        Case((names[source_of(one)],), one.arm, kind, _truth(task, one.arm, one.label), one.label)
        for one in (unit.real, unit.other)
    ]


def _truth(task: Task, arm: str, label: str) -> str:
    if task.task == "turing":  # whatever is not the image as it was taken
        return "real" if arm == REAL else "synthetic"
    return label if task.task == "diagnosis" else ""


def _fakes(task: Task, drawn: Drawn, names: Names) -> list[Case]:
    return [
        Case((names[source_of(one)],), FAKE, "fake", _truth(task, FAKE, ""))
        for one in drawn.fakes[: task.fakes]
    ]


def _fakes_of_pairs(task: Task, drawn: Drawn, names: Names) -> list[Case]:
    return [
        Case((names[source_of(real)], names[source_of(fake)]), FAKE, "fake")
        for real, fake in zip(drawn.partners, drawn.fakes[: task.fakes], strict=True)
    ]


def _same(drawn: Drawn, names: Names) -> list[Case]:
    return [
        Case((names[source_of(one)], names[source_of(other)]), REAL, "same")
        for one, other in drawn.same
    ]
