"""Readers of known skill, who answer a study as a person would: what the analysis must give back.

A picture shows itself to a reader as a number, drawn about 0 for a real one and about d' for a synthetic
one; what is hard in a picture is hard for all (`shared`). Above the criterion it is called synthetic, and
the further from it the surer. With `lapse` a reader presses anything.
"""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

FAKE_DISTANCE = 4.0  # how much a gross fake stands out


@dataclass(frozen=True)
class Skill:
    """One reader."""

    d_prime: float = 1.0
    criterion: float = 0.0  # c: above 0 leans towards real
    lapse: float = 0.0  # share of answers by chance
    shared: float = 0.3  # share of a picture's variance that is the picture's own
    quality: Mapping[str, float] = field(default_factory=lambda: {"real": 4.0, "fake": 1.2})
    synthetic_quality: float = 3.5  # mean before rounding to 1 to 5
    knows: Mapping[str, float] = field(default_factory=lambda: {"real": 0.9})
    knows_synthetic: float = 0.8  # share of synthetic findings recognised
    tie: float = 0.0  # half the width in which two pictures are called equal
    seconds: float = 6.0  # median time of an answer


@dataclass(frozen=True)
class Question:
    """One trial with what the key says of it."""

    task: str
    items: tuple[str, ...]
    arms: tuple[str, ...]
    truth: str = ""
    labels: Sequence[str] = ()
    prompt: str = ""
    ties: bool = False


@dataclass(frozen=True)
class Reply:
    """What is written into the database, and how long it took."""

    value: str
    confidence: int | None
    details: str
    seconds: float


class Scripted:
    """A reader of a skill. The same seed gives the same answers."""

    def __init__(self, skill: Skill, seed: int) -> None:
        self.skill = skill
        self.rng = np.random.default_rng(seed)

    def answer(self, question: Question) -> Reply:
        """What the reader says."""
        lapses = self.rng.random() < self.skill.lapse
        value, confidence, details = _TASKS[question.task](self, question, lapses)
        seconds = self.skill.seconds * math.exp(0.4 * self.rng.standard_normal())
        return Reply(value, confidence, details, round(seconds, 3))

    def seen(self, item: str, arm: str) -> float:
        """How synthetic a picture looks, around 0 if it is real, of variance 1."""
        own = np.random.default_rng(zlib.crc32(item.encode())).standard_normal()
        noise = self.rng.standard_normal()
        place = {"real": 0.0, "fake": FAKE_DISTANCE}.get(arm, self.skill.d_prime)
        return place + math.sqrt(self.skill.shared) * own + math.sqrt(1 - self.skill.shared) * noise

    def turing(self, q: Question, lapses: bool) -> tuple[str, int, str]:
        skill = self.skill
        apart = self.seen(q.items[0], q.arms[0]) - (skill.criterion + skill.d_prime / 2)
        if lapses:
            apart = 2 * self.rng.standard_normal()
        sure = 1 + int(abs(apart) > 0.5) + int(abs(apart) > 1.2)
        return ("synthetic" if apart > 0 else "real"), sure, ""

    def pair(self, q: Question, lapses: bool) -> tuple[str, None, str]:
        left, right = (self.seen(item, arm) for item, arm in zip(q.items, q.arms, strict=True))
        apart = (
            self.rng.standard_normal() if lapses else right - left
        )  # the less synthetic is chosen
        if q.ties and abs(apart) < self.skill.tie:
            return "tie", None, ""
        return ("left" if apart > 0 else "right"), None, ""

    def rating(self, q: Question, lapses: bool) -> tuple[str, None, str]:
        mean = self.skill.quality.get(q.arms[0], self.skill.synthetic_quality)
        own = np.random.default_rng(zlib.crc32(q.items[0].encode())).standard_normal()
        drawn = mean + 0.5 * own + 0.6 * self.rng.standard_normal()
        level = int(self.rng.integers(1, 6)) if lapses else int(np.clip(round(drawn), 1, 5))
        words = len(q.prompt.split()) if q.task == "alignment" else 0
        wrong = [int(self.rng.integers(words))] if words and level < 4 else []
        return str(level), None, json.dumps(wrong) if words else ""

    def diagnosis(self, q: Question, lapses: bool) -> tuple[str, int, str]:
        skill = self.skill
        knows = not lapses and self.rng.random() < skill.knows.get(q.arms[0], skill.knows_synthetic)
        others = [label for label in q.labels if lapses or label != q.truth]
        value = q.truth if knows else str(self.rng.choice(others))
        return value, 3 if knows else 1, ""


_TASKS = {
    "turing": Scripted.turing,
    "pair": Scripted.pair,
    "quality": Scripted.rating,
    "alignment": Scripted.rating,
    "diagnosis": Scripted.diagnosis,
}
