"""Which class an image is of, learned from the real images."""

from collections.abc import Sequence
from dataclasses import dataclass

from vesalius.core.labels import findings_of
from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet

COLUMNS = ("label", "caption", "group", "source")
Columns = dict[str, list[str]]


def columns_of(images: ImageSet, by: str) -> Columns:
    """What a set says of each image, "" where nothing. `by` is one more column, if there is one."""
    columns: Columns = {}
    for name in (*COLUMNS, by):
        try:
            columns[name] = [str(value or "") for value in images.column(name)]
        except KeyError:  # a table without it
            columns[name] = [""] * len(images)
    return columns


@dataclass(frozen=True)
class Naming:
    """Which class an image is of, learned from the real images.

    A synthetic image without a label has that of the real images with its caption. A label that
    several sources use, such as "normal", is one class a source: a normal chest is no normal eye.
    """

    by: str
    caption: dict[str, dict[str, str]]  # column -> caption -> the one value that goes with it
    label: dict[str, dict[str, str]]
    shared: frozenset[str]  # findings of more than one source

    @classmethod
    def learn(cls, real: Sequence[Columns], by: str) -> "Naming":
        """Raises VesaliusError where no real image has anything in the column `by`."""
        whole = {name: [v for c in real for v in c[name]] for name in real[0]}
        if not any(whole[by]):
            raise VesaliusError(f"no real image has a {by}: choose another column by --by")
        sources: dict[str, set[str]] = {}
        for label, source in zip(whole["label"], whole["source"], strict=True):
            for finding in findings_of(label):
                sources.setdefault(finding, set()).add(source)
        names = ("label", "source", by)
        return cls(
            by,
            {name: _one_value(whole["caption"], whole[name]) for name in names},
            {name: _one_value(whole["label"], whole[name]) for name in names},
            frozenset(finding for finding, where in sources.items() if len(where) > 1),
        )

    def fill(self, columns: Columns) -> Columns:
        """The columns, with what is missing filled in from captions and labels."""
        filled = dict(columns)
        for name in dict.fromkeys(("label", "source", self.by)):
            filled[name] = [
                value or self.caption[name].get(caption, "") or self.label[name].get(label, "")
                for value, caption, label in zip(
                    filled[name], filled["caption"], filled["label"], strict=True
                )
            ]
        return filled

    def classes(self, columns: Columns) -> list[frozenset[str]]:
        """The classes of each image."""
        if self.by != "label":
            return [frozenset({value} if value else ()) for value in columns[self.by]]
        return [
            frozenset(
                f"{finding} ({source})" if finding in self.shared and source else finding
                for finding in findings_of(label)
            )
            for label, source in zip(columns["label"], columns["source"], strict=True)
        ]


def _one_value(keys: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Keys that stand beside one value only, with that value."""
    found: dict[str, set[str]] = {}
    for key, value in zip(keys, values, strict=True):
        if key and value:
            found.setdefault(key, set()).add(value)
    return {key: next(iter(each)) for key, each in found.items() if len(each) == 1}
