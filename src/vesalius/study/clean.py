"""Images that must not be in a study: unreadable ones, synthetic ones among the real, copies across sides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vesalius.core.progress import Count
from vesalius.errors import VesaliusError
from vesalius.images.crossing import crossing
from vesalius.images.image_set import Survey, survey
from vesalius.images.pixels import SMALLEST_SIDE
from vesalius.images.provenance import count_synthetic
from vesalius.study.candidates import Candidate, Material
from vesalius.study.draw import Drawn, draw
from vesalius.study.key import REAL
from vesalius.study.needs import Needs

_ROUNDS = 20  # each leaves out what the one before found
_MOST_TRAINED = 20_000  # training images that are looked at for copies
Bad = tuple[Candidate, str]  # and why


@dataclass
class Cleaner:
    """Draws until nothing is wrong with what is drawn; what it has looked at is remembered."""

    material: Material
    needs: Needs
    seed: int
    reuse: bool
    surveyed: dict[int, Survey] = field(default_factory=dict)  # of one row each
    thumbs: dict[int, np.ndarray] = field(default_factory=dict)

    def draw(self, count: Count) -> Drawn:
        """The drawn images. Raises VesaliusError where too few are left, or real ones are synthetic."""
        banned: set[int] = set()
        trained = self._trained()
        for number in range(_ROUNDS):
            count(number, None)
            drawn = draw(self.material, self.needs, self.seed, reuse=self.reuse, banned=banned)
            wrong = {bad.row: (bad, why) for bad, why in self._wrong(drawn, trained)}
            if not wrong:
                return drawn
            for bad, why in wrong.values():
                self.material.ledger.exclude(bad.arm if bad.set else REAL, why)
            banned |= wrong.keys()
        raise VesaliusError(
            "copies of real, training or other synthetic images come up again and again: give a set that "
            "was made with --guard"
        )

    def survey_of(self, rows: Sequence[int]) -> Survey:
        """What the files of these rows are."""
        fresh = [row for row in dict.fromkeys(rows) if row not in self.surveyed]
        found = survey(self.material.images.take(fresh))
        for k, row in enumerate(fresh):
            self.surveyed[row] = Survey(
                [found.keys[k]], [found.sizes[k]], [found.modes[k]], [found.formats[k]],
                {0: found.unreadable[k]} if k in found.unreadable else {},
            )  # fmt: skip
        each = [self.surveyed[row] for row in rows]
        return Survey(
            [one.keys[0] for one in each], [one.sizes[0] for one in each],
            [one.modes[0] for one in each], [one.formats[0] for one in each],
            {k: one.unreadable[0] for k, one in enumerate(each) if one.unreadable},
        )  # fmt: skip

    def _trained(self) -> list[int]:
        rows, ledger = self.material.trained, self.material.ledger
        if len(rows) > _MOST_TRAINED:
            ledger.warnings.append(
                f"copies of the {len(rows):,} training images were not looked for: there are more than "
                f"{_MOST_TRAINED:,}; `vesalius synthesize --guard` looks for them"
            )
            return []
        return rows

    def _wrong(self, drawn: Drawn, trained: Sequence[int]) -> Iterator[Bad]:
        used = {c.row: c for c in drawn.used()}
        fakes = {c.row: c for c in drawn.fakes}
        found = self.survey_of([*used, *fakes])
        damaged = False
        for k, one in enumerate((*used.values(), *fakes.values())):
            if k in found.unreadable or min(found.sizes[k]) < SMALLEST_SIDE:
                damaged = True
                yield one, "cannot be read"
        if damaged:
            return
        reals = [row for row, one in used.items() if not one.set]
        if number := count_synthetic(self.material.images.take(reals)):
            raise VesaliusError(
                f"{number} of the real images say inside that they are synthetic: take them out of the "
                "table"
            )
        # real ones first, so that of two the synthetic one goes
        order = sorted(used, key=lambda row: (bool(used[row].set), row))
        place = {row: k for k, row in enumerate(order)}
        images, pairs = self.material.images, []
        pairs = crossing(images.encoded, order, [*order, *trained], self.thumbs)
        for first, second in pairs:
            one = used[first]
            if second not in used:
                yield one, "nearly repeats a training image"
            elif place[first] > place[second]:
                other = "synthetic image" if used[second].set else "real image"
                yield one, f"nearly repeats another {other} of the study"
