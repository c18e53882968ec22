"""How many images a protocol needs, and what is possible with those that there are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vesalius.errors import VesaliusError
from vesalius.study.protocol import Protocol, Task


@dataclass(frozen=True)
class Needs:
    """Counts of matched pairs (a real image and one of another arm) and of further real images."""

    units: Mapping[str, Mapping[str, int]]  # of each task, of each arm
    training: int  # pairs apart, for all tasks
    same: int  # real-real pairs
    partners: int  # real images beside the gross fakes of pairs
    fakes: int

    def of(self, arm: str) -> tuple[int, int]:
        """Pairs of one arm: of the task with most, and of all tasks."""
        numbers = [by_arm[arm] for by_arm in self.units.values()]
        return max(numbers), sum(numbers)


def needs_of(protocol: Protocol, arms: Sequence[str]) -> Needs:
    """What a protocol asks for; `arms` are those besides the real one.

    Raises VesaliusError where a task has fewer trials than there are arms.
    """
    tasks = protocol.tasks
    pair = next((task for task in tasks if task.task == "pair"), None)
    return Needs(
        {task.task: _shared(task, arms) for task in tasks},
        math.ceil(protocol.training / 2),
        round(pair.same * pair.trials) if pair else 0,
        pair.fakes if pair else 0,
        max(task.fakes for task in tasks),
    )


def _shared(task: Task, arms: Sequence[str]) -> dict[str, int]:
    number = task.trials if task.task == "pair" else task.trials // 2
    if number < len(arms):
        raise VesaliusError(
            f"{task.task} has {task.trials} trials for {len(arms)} arms besides the real one: "
            "give more --trials"
        )
    return {arm: number // len(arms) + (k < number % len(arms)) for k, arm in enumerate(arms)}


def check_enough(
    needs: Needs, made: Mapping[str, int], labels: Mapping[str, int], *, reuse: bool
) -> None:
    """Raise VesaliusError, saying what is possible, where too few pairs can be made.

    `made` are the pairs of each arm, `labels` those of each label.
    """
    short = [arm for arm in made if made[arm] < needs.of(arm)[0 if reuse else 1]]
    if not short:
        return
    arm = min(short, key=lambda name: made[name])
    wanted = needs.of(arm)[0 if reuse else 1]
    possible = _possible(needs, min(made.values()), len(made), reuse=reuse)
    by_label = ", ".join(f"{label} {number}" for label, number in sorted(labels.items()))
    advice = f"--trials {possible} is possible" if possible >= 2 else "give more images"
    if not reuse:
        advice += ", and more with --reuse"
    raise VesaliusError(
        f"the design needs {wanted} real images matched with ones of {arm}, and {made[arm]} can be "
        f"matched ({by_label}), with {needs.training} for training, {2 * needs.same} for real-real "
        f"pairs and {needs.partners} beside gross fakes taken first: {advice}"
    )


def _possible(needs: Needs, made: int, arms: int, *, reuse: bool) -> int:
    """The largest even number of trials of every task."""
    weights = [1.0 if task == "pair" else 0.5 for task in needs.units]
    weight = max(weights) if reuse else sum(weights)
    return int(made * arms / weight) // 2 * 2
