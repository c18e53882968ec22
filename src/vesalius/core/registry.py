"""Things chosen by name, loaded when they are first used: ours, and those of other packages.

A package adds a name by an entry point of the group `vesalius.readers`, `vesalius.extractors`,
`vesalius.metrics`, `vesalius.methods` or `vesalius.stores`, see docs/extending.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vesalius.errors import VesaliusError


@dataclass(frozen=True)
class Registry:
    """What a name stands for: `kind` is what messages call it, `own` maps names to "module:attribute"."""

    kind: str
    own: Mapping[str, str]

    @property
    def group(self) -> str:
        """The group of the entry points."""
        return f"vesalius.{self.kind}s"

    def names(self) -> tuple[str, ...]:
        """All names: ours in their order, then those of other packages."""
        others = sorted(point.name for point in entry_points(group=self.group))
        return tuple(dict.fromkeys([*self.own, *others]))

    def check(self, name: str, *also: str) -> None:
        """Raise VesaliusError listing the names, and those of `also`, where `name` is none of them."""
        if name not in also and self._point(name) is None:
            known = ", ".join([*also, *self.names()])
            raise VesaliusError(f"no {self.kind} {name!r}: choose one of {known}")

    def load(self, name: str) -> Any:
        """What `name` stands for. Raises VesaliusError for an unknown name or a broken package."""
        self.check(name)
        point = self._point(name)
        assert point is not None
        if name in self.own:
            return point.load()
        try:
            return point.load()
        except Exception as error:  # another package's code may raise anything
            raise VesaliusError(
                f"the {self.kind} {name!r} of {point.value} cannot be loaded: {error}"
            ) from error

    def _point(self, name: str) -> EntryPoint | None:
        if name in self.own:
            return EntryPoint(name, self.own[name], self.group)
        return next(iter(entry_points(group=self.group, name=name)), None)
