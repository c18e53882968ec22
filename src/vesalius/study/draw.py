"""Drawing: which real image is shown, and which image of another arm it is matched with.

Labels, and within them views and sides, take turns, so that they are as even as the images allow. Of the
images that fit, one with the same prompt is taken first.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.study.candidates import Candidate, Material
from vesalius.study.key import RECONSTRUCTED
from vesalius.study.needs import Needs, check_enough

_Stratum = tuple[str, ...]  # a label, then the columns that all arms have


@dataclass(frozen=True)
class Unit:
    """A real image and one of another arm that shows the same; of `reconstructed` another patient."""

    real: Candidate
    other: Candidate

    @property
    def same_prompt(self) -> bool:
        """Whether both have one prompt."""
        return self.real.prompt == self.other.prompt


@dataclass(frozen=True)
class Drawn:
    """All images of a study."""

    training: list[Unit]
    units: list[Unit]  # arms and labels in turn
    same: list[tuple[Candidate, Candidate]]
    partners: list[Candidate]
    fakes: list[Candidate]  # real images of which gross fakes are made

    def used(self) -> list[Candidate]:
        """Every image that is shown as it is, once."""
        found = [c for unit in (*self.training, *self.units) for c in (unit.real, unit.other)]
        return [*found, *(c for pair in self.same for c in pair), *self.partners]


def draw(
    material: Material, needs: Needs, seed: int, *, reuse: bool, banned: Collection[int] = ()
) -> Drawn:
    """Draw what is needed without the rows that are `banned`.

    Raises VesaliusError that says what is possible where there are too few images.
    """
    pool = _Pool(material, next(iter(needs.units.values())), banned)
    arms = list(pool.arms)
    training = pool.units({arm: 0 for arm in arms}, needs.training)
    same = [pool.two_real() for _ in range(needs.same)]
    partners = [pool.one_real() for _ in range(needs.partners)]
    units = pool.units({arm: needs.of(arm)[1] for arm in arms})
    made = {arm: sum(unit.other.arm == arm for unit in units) for arm in arms}
    labels = Counter(unit.real.label for unit in units)
    check_enough(needs, made, labels, reuse=reuse)
    lacking = {
        "matched training cases": needs.training - len(training),
        "real-real pairs": sum(pair is None for pair in same),
        "real images beside gross fakes": sum(one is None for one in partners),
    }
    if short := [f"{number} {what}" for what, number in lacking.items() if number]:
        raise VesaliusError(f"there are too few real images: {', '.join(short)} are missing")
    drawn = Drawn(training, units, [p for p in same if p], [p for p in partners if p], [])
    read = {id(unit) for some in shares(drawn, needs).values() for unit in some}
    drawn = replace(drawn, units=[unit for unit in units if id(unit) in read])
    return replace(drawn, fakes=_for_fakes(material, drawn, needs.fakes, seed, banned))


def shares(drawn: Drawn, needs: Needs) -> dict[str, list[Unit]]:
    """The units of each task: those that fewest tasks have had; for `alignment` first of one prompt."""
    times: Counter[int] = Counter()
    found: dict[str, list[Unit]] = {}
    for task, by_arm in needs.units.items():
        chosen: list[int] = []
        for arm, number in by_arm.items():
            own = [k for k, unit in enumerate(drawn.units) if unit.other.arm == arm]
            own.sort(key=lambda k: (task == "alignment" and not drawn.units[k].same_prompt, times[k]))  # fmt: skip
            chosen += own[:number]
        times.update(chosen)
        found[task] = [drawn.units[k] for k in sorted(chosen)]
    return found


def _for_fakes(
    material: Material, drawn: Drawn, number: int, seed: int, banned: Collection[int]
) -> list[Candidate]:
    """Real images of patients who are shown nowhere; they will not be recognised as real ones."""
    groups = material.pairs.column("group")
    shown = {c.row for c in drawn.used()}
    people = {c.group for c in drawn.used() if c.group}
    rows = np.array(material.elsewhere, int)
    order = np.random.default_rng([seed, 4]).permutation(rows).tolist()
    free = [row for row in order if (groups[row] or "") not in people]
    free += [c.row for c in material.real if c.row not in shown]
    free = [row for row in free if row not in banned]
    if len(free) < number:
        raise VesaliusError(
            f"{number} gross fakes need as many further real images, and {len(free)} are left: "
            "give fewer --fakes"
        )
    captions, sha1 = material.pairs.column("caption"), material.pairs.column("sha1")
    return [
        Candidate(row, "fake", "", f"made of {sha1[row]}", "", captions[row] or "", "", {})
        for row in free[:number]
    ]


class _Pool:
    """What is still to be drawn, by stratum."""

    def __init__(self, material: Material, arms: Iterable[str], banned: Collection[int]) -> None:
        columns = _shared_columns(material)
        self.real = _strata(material.real, columns, banned)
        self.arms = {arm: _strata(material.sets.get(arm, []), columns, banned) for arm in arms}

    def units(self, wanted: dict[str, int], anyhow: int = 0) -> list[Unit]:
        """So many pairs of each arm, or `anyhow` of all arms in turn; fewer where images run out."""
        left = dict(wanted)
        allotted: list[tuple[str, _Stratum]] = []
        exhausted: set[str] = set()
        taken: Counter[tuple[str, _Stratum]] = Counter()
        reals: Counter[_Stratum] = Counter()
        while True:
            before = len(allotted)
            for arm in self.arms:
                if arm in exhausted or (left[arm] <= 0 and len(allotted) >= anyhow):
                    continue
                stratum = self._next(arm, taken, reals)
                if stratum is None:
                    exhausted.add(arm)
                    continue
                allotted.append((arm, stratum))
                left[arm] -= 1
            if len(allotted) == before:
                break
        made = {key: self._pair(*key, number) for key, number in Counter(allotted).items()}
        return [made[key].pop(0) for key in allotted]

    def two_real(self) -> tuple[Candidate, Candidate] | None:
        """Two real images of one stratum."""
        stratum = self._fullest(2)
        return (self.real[stratum].pop(0), self.real[stratum].pop(0)) if stratum else None

    def one_real(self) -> Candidate | None:
        """A real image of the stratum with most left."""
        stratum = self._fullest(1)
        return self.real[stratum].pop(0) if stratum else None

    def _fullest(self, number: int) -> _Stratum | None:
        some = [stratum for stratum, left in self.real.items() if len(left) >= number]
        return max(some, key=lambda stratum: (len(self.real[stratum]), stratum), default=None)

    def _next(
        self, arm: str, taken: Counter[tuple[str, _Stratum]], reals: Counter[_Stratum]
    ) -> _Stratum | None:
        """The stratum whose turn it is, of those that have a pair for the arm."""
        each = 2 if arm == RECONSTRUCTED else 1  # of real images
        open_ones = [
            stratum
            for stratum, left in self.real.items()
            if len(left) - reals[stratum] >= each
            and (arm == RECONSTRUCTED
                 or len(self.arms[arm].get(stratum, ())) > taken[arm, stratum])
        ]  # fmt: skip
        if not open_ones:
            return None
        stratum = min(open_ones, key=lambda s: (taken[arm, (s[0],)], taken[arm, s], s))
        reals[stratum] += each
        for key in {stratum, (stratum[0],)}:
            taken[arm, key] += 1
        return stratum

    def _pair(self, arm: str, stratum: _Stratum, number: int) -> list[Unit]:
        """So many pairs of a stratum, those of one prompt first; in the order of the real images."""
        reals = [self.real[stratum].pop(0) for _ in range(number)]
        if arm == RECONSTRUCTED:
            others = [self.real[stratum].pop(0) for _ in range(number)]
            return [
                Unit(a, replace(b, arm=RECONSTRUCTED)) for a, b in zip(reals, others, strict=True)
            ]
        others = self.arms[arm][stratum]
        found: dict[int, Candidate] = {}
        for k, one in enumerate(reals):
            same = next((other for other in others if other.prompt == one.prompt), None)
            if same:
                found[k] = same
                others.remove(same)
        for k in range(number):
            if k not in found:
                found[k] = others.pop(0)
        return [Unit(one, found[k]) for k, one in enumerate(reals)]


def _shared_columns(material: Material) -> list[str]:
    """The columns that real images and every set know."""
    arms: Sequence[Sequence[Candidate]] = [material.real, *material.sets.values()]
    known = [{name for c in some for name in c.attributes} for some in arms]
    return sorted(set.intersection(*known))


def _strata(
    candidates: Sequence[Candidate], columns: Sequence[str], banned: Collection[int]
) -> dict[_Stratum, list[Candidate]]:
    found: dict[_Stratum, list[Candidate]] = {}
    for one in candidates:
        if one.row not in banned:
            stratum = (one.label, *(one.attributes.get(name, "") for name in columns))
            found.setdefault(stratum, []).append(one)
    return found
