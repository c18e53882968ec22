"""What a browser is told of the trials ahead. Everything it learns of a trial is in this file.

Words that would give away what a study is about come from here and the protocol, block by block, never
from scripts or pages: a reader of the first, unaware phase meets none of them.
"""

from dataclasses import dataclass
from typing import Any

from vesalius.study.database import Trial
from vesalius.study.protocol import Task
from vesalius.study.server.material import Material
from vesalius.study.server.standing import Standing, block

SURE = ((1, "Guess"), (2, "Fairly sure"), (3, "Sure"))
WITH_CONFIDENCE = ("turing", "diagnosis")


@dataclass(frozen=True)
class Choice:
    """One answer that is offered."""

    value: str
    label: str
    hint: str = ""


def choices(task: Task) -> tuple[Choice, ...]:
    """The answers offered for a task, in the order of their keys."""
    if task.task == "turing":
        return Choice("real", "Real"), Choice("synthetic", "Synthetic")
    if task.task == "pair":
        tie = (Choice("tie", "No difference"),) if task.ties else ()
        return Choice("left", "Left"), *tie, Choice("right", "Right")
    if task.task == "diagnosis":
        return tuple(Choice(label, _spoken(label)) for label in task.labels)
    return tuple(Choice(str(k), str(k), task.anchors[k]) for k in sorted(task.anchors))


def _spoken(label: str) -> str:
    """A label as people write it: `Viral pneumonia` for `viral_pneumonia`."""
    return label[:1].upper() + label[1:].replace("_", " ")


def state(material: Material, now: Standing) -> dict[str, Any]:
    """All that the reading page needs: this trial, the next ones of its block, and how to answer."""
    first = now.next
    told: dict[str, Any] = {
        "page": now.page,
        "done": now.done,
        "of": len(now.trials),
        "back": _trial(material, now.undoable) if now.undoable else None,
    }
    if now.page != "reading" or first is None:
        return told
    same = [k for k, trial in enumerate(now.trials) if block(trial) == block(first)]
    return told | {
        "trials": [_trial(material, trial) for trial in now.ahead],
        "block": _block(material, now, first, len(same)) | {"left": same[-1] + 1 - now.done},
        "pause": {
            "trials": now.pause_in_trials,
            "seconds": round(now.pause_in_seconds),
        },
    }


def _trial(material: Material, trial: Trial) -> dict[str, Any]:
    """One trial: an address for each image, and the prompt where the task shows it."""
    shows_prompt = trial.task == "alignment"
    return {
        "token": trial.token,
        "images": [f"image/{trial.token}/{side}" for side in range(len(trial.items))],
        "words": words(material, trial) if shows_prompt else [],
    }


def words(material: Material, trial: Trial) -> list[str]:
    """The prompt, split where a word can be ticked."""
    return material.items[trial.items[0]].prompt.split()


def _block(material: Material, now: Standing, trial: Trial, size: int) -> dict[str, Any]:
    task = material.protocol.task(trial.task)
    blocks = list(dict.fromkeys(block(one) for one in now.trials))
    is_practice = trial.phase == "training"
    return {
        "number": blocks.index(block(trial)) + 1,
        "of": len(blocks),
        "size": size,
        "practice": is_practice,
        "heading": "Practice" if is_practice else "Reading",
        "question": task.question,
        "how": _how(task, is_practice),
        "choices": [vars(choice) for choice in choices(task)],
        "confidence": [{"value": value, "label": label} for value, label in SURE]
        if trial.task in WITH_CONFIDENCE
        else [],
        "words": trial.task == "alignment",
        "pair": len(trial.items) == 2,
    }


def _how(task: Task, is_practice: bool) -> list[str]:
    """How to answer, in sentences."""
    said = {
        "turing": "You see one image at a time. Choose an answer, then say how sure you are.",
        "pair": "You see two images side by side. Choose one of them.",
        "quality": "You see one image at a time. Choose the number whose words fit it best.",
        "alignment": "You see one image and a text. Tick the words that do not fit the image, "
        "choose how well the text fits as a whole, then go on.",
        "diagnosis": "You see one image at a time. Choose what it shows, then say how sure you are.",
    }[task.task]
    lines = [said]
    if is_practice:
        lines.append(
            "These first images are for practice: you are told the right answer where there is one, "
            "and your answers do not count."
        )
    else:
        lines.append("Take the time that you need. There is no feedback from here on.")
    return lines


def feedback(material: Material, trial: Trial, value: str) -> dict[str, Any] | None:
    """What a reader is told after an answer in training; None where nothing is to be told."""
    if trial.phase != "training":
        return None
    if not trial.feedback:
        return {"right": None, "text": "Thank you. There is no single right answer here."}
    offered = {c.value: c.label for c in choices(material.protocol.task(trial.task))}
    name = offered.get(trial.feedback, trial.feedback)
    return {"right": value == trial.feedback, "text": f"The right answer is: {name}."}
