"""The analysis of a reader study of a hundred readers, by trials of each; nobody read it.

Half of a reader's trials are of pictures that all readers judge, as the protocol of a large study asks
for, and half of pictures of its own. Answers are drawn: readers are right in two of three.
"""

import random
from pathlib import Path
from typing import Any

from benchmarks.growth.measuring import Stage
from vesalius.study.analyse import MEASURES
from vesalius.study.judgements import Judgement, Person, blocks, score_of
from vesalius.study.protocol import Task

READERS, MARGIN = 100, 0.05
TASKS: tuple[str, ...] = ("turing", "quality", "diagnosis")


def judged(size: int, folder: Path) -> tuple[list[Judgement], list[Person]]:
    """`size` trials of each reader in each task."""
    draw = random.Random(0)
    people = [
        Person(f"R{k:03}", ("radiology", "other")[k % 2], float(k % 15), trials=size)
        for k in range(READERS)
    ]
    found: list[Judgement] = []
    for task in TASKS:
        for person in people:
            for position in range(size):
                found.append(_one(draw, task, person, position, len(found)))
    return found, people


def _one(draw: random.Random, task: str, person: Person, position: int, trial: int) -> Judgement:
    shared = position % 2 == 0
    item = f"{task}-{position}" if shared else f"{task}-{person.reader}-{position}"
    synthetic = position // 2 % 2 == 1
    right = draw.random() < 2 / 3
    label, truth, confidence = f"finding {position % 5}", "", None
    if task == "turing":
        truth = "synthetic" if synthetic else "real"
        value = truth if right else ("real" if synthetic else "synthetic")
        confidence = draw.randint(1, 3)
    elif task == "diagnosis":
        truth, value = label, label if right else f"finding {draw.randrange(5)}"
    else:
        value = str(draw.randint(1, 5))
    return Judgement(
        reader=person.reader, specialty=person.specialty, years=person.years,
        task=task,  # pyright: ignore[reportArgumentType]
        phase="reading", kind="scored", position=position, trial=trial, item_left=item, item_right="",
        arm="synthetic:a" if synthetic else "real", arm_right="", set="a" if synthetic else "",
        set_right="", label=label, truth=truth, value=value, confidence=confidence,
        score=score_of(value, confidence), correct=value == truth if truth else None, details="",
        seconds=draw.uniform(3, 30), shown_at=None, submitted_at=None, changes=0, zoomed=False,
        windowed=False, repeat_of=None,
    )  # fmt: skip


def measures(size: int, folder: Path, made: tuple[list[Judgement], list[Person]]) -> dict[str, Any]:
    """All figures of every task."""
    figures = 0
    for block in blocks(*made):
        task = Task.model_construct(task=block.task, margin=MARGIN)
        figures += len(MEASURES[block.task](block, task).figures)
    return {"figures": figures}


STAGES = {"study: measures": Stage("trials a reader", (10, 100, 1_000), measures, judged)}
