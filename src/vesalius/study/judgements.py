"""What readers judged, joined with the key: the rows of answers.csv, and all that the analysis sees."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Task = Literal["turing", "pair", "quality", "alignment", "diagnosis"]
Kind = Literal["scored", "repeat", "fake", "same", "training"]
REAL, FAKE, RECONSTRUCTED = "real", "fake", "reconstructed"  # arms; others are synthetic sets
BANDS = ("under 5 years", "5 to 9 years", "10 years or more")  # of experience
RATED = ("quality", "alignment")


@dataclass(frozen=True)
class Person:
    """A reader, by the name that the study gave: nothing here says who it is."""

    reader: str
    specialty: str = ""
    years: float | None = None
    seen_before: str = ""  # whether such images, as the reader says
    trials: int = 0
    answered: int = 0
    consented_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def band(self) -> str:
        """Years in the specialty, in bands; empty where the reader did not say."""
        if self.years is None:
            return ""
        return BANDS[(self.years >= 5) + (self.years >= 10)]


@dataclass(frozen=True)
class Judgement:
    """One answer and what is true of its pictures. Those with `counts` False were undone later."""

    reader: str
    specialty: str
    years: float | None
    task: Task
    phase: str
    kind: Kind
    position: int
    trial: int
    item_left: str  # the picture, or the left one of a pair
    item_right: str
    arm: str
    arm_right: str
    set: str
    set_right: str
    label: str
    truth: str
    value: str
    confidence: int | None
    score: int | None  # of turing: 1, surely real, to 6, surely synthetic
    correct: bool | None
    details: str  # of alignment: positions of the wrong words, a JSON list
    seconds: float | None  # that the pictures were visible
    shown_at: float | None
    submitted_at: float | None
    changes: int  # earlier answers to the same trial
    zoomed: bool
    windowed: bool
    repeat_of: int | None  # the trial that this one repeats
    counts: bool = True
    prompt: str = ""

    @property
    def items(self) -> tuple[str, ...]:
        """The pictures, of a pair in alphabetical order: the same whichever side they stood on."""
        return tuple(sorted(filter(None, (self.item_left, self.item_right))))

    @property
    def synthetic_arm(self) -> str:
        """The set that is judged: of a pair with a real picture the other one."""
        return self.arm_right if self.arm == REAL and self.arm_right else self.arm


def score_of(value: str, confidence: int | None) -> int | None:
    """Six levels from surely real (1) to surely synthetic (6)."""
    if confidence not in (1, 2, 3):
        return None
    return {"synthetic": 3 + confidence, "real": 4 - confidence}.get(value)


@dataclass(frozen=True)
class Block:
    """What a group of readers answered in one task and phase; only answers that count."""

    task: Task
    phase: str
    judgements: Sequence[Judgement]
    people: Sequence[Person] = field(default=())

    def of_kind(self, *kinds: Kind) -> list[Judgement]:
        """The answers of these kinds."""
        return [each for each in self.judgements if each.kind in kinds]

    @cached_property
    def scored(self) -> list[Judgement]:
        """The answers that figures are of."""
        return self.of_kind("scored")

    @cached_property
    def readers(self) -> list[str]:
        """Readers in order."""
        return list(dict.fromkeys(each.reader for each in self.judgements))

    @cached_property
    def sets(self) -> list[str]:
        """The synthetic arms, in order."""
        return [arm for arm in self.arms if arm != RECONSTRUCTED]

    @cached_property
    def arms(self) -> list[str]:
        """All that is judged against real images: synthetic sets, and reconstructed images."""
        arms = {each.synthetic_arm for each in self.scored}
        return sorted(arm for arm in arms if arm not in (REAL, FAKE))

    @property
    def pooled(self) -> str:
        """What all synthetic images together are called."""
        return self.sets[0] if len(self.sets) == 1 else "synthetic"

    def only(self, readers: Iterable[str]) -> "Block":
        """The answers of some readers."""
        wanted = set(readers)
        some = [each for each in self.judgements if each.reader in wanted]
        return Block(self.task, self.phase, some, [p for p in self.people if p.reader in wanted])


def by_reader(judgements: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    """The answers of each reader; none of one who gave none."""
    found: dict[str, list[Judgement]] = defaultdict(list)
    for each in judgements:
        found[each.reader].append(each)
    return found


def blocks(judgements: Sequence[Judgement], people: Sequence[Person]) -> list[Block]:
    """The answers that count, by task and phase; training is left out."""
    some = [each for each in judgements if each.counts and each.kind != "training"]
    keys: dict[tuple[Task, str], None] = dict.fromkeys((each.task, each.phase) for each in some)
    return [
        Block(task, phase, [e for e in some if (e.task, e.phase) == (task, phase)], people)
        for task, phase in keys
    ]
