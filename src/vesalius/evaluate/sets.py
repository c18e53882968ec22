"""The sets that are compared: images that could be read, their features, and what is known of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from vesalius.core.labels import join_findings
from vesalius.evaluate.naming import Columns, Naming, columns_of
from vesalius.images.image_set import ImageSet, Survey, joined
from vesalius.models.networks.features import Extracted

_SURVEYED = ("keys", "sizes", "modes", "formats")


@dataclass(frozen=True)
class ComparedSet(ImageSet):
    """Images that could be read, and what is known of them, row for row."""

    name: str
    images: ImageSet
    survey: Survey
    features: dict[str, np.ndarray]  # extractor's name -> (n, D) float32
    columns: Columns
    classes: list[frozenset[str]]  # of each image, maybe several findings

    def __len__(self) -> int:
        return len(self.classes)

    def encoded(self, index: int) -> bytes:
        """The image file."""
        return self.images.encoded(index)

    def column(self, name: str) -> list[str]:
        """One column; `sha1` is that of the file."""
        return self.survey.keys if name == "sha1" else self.columns[name]

    @property
    def groups(self) -> list[str]:
        """The patient of each image; without one an image is its own."""
        return [g or f"\0{k}" for k, g in enumerate(self.columns["group"])]

    @cached_property
    def labels(self) -> list[str]:
        """All classes of an image as one label, "" for none."""
        return [join_findings(each) for each in self.classes]

    @property
    def class_counts(self) -> Counter[str]:
        """Images of each class."""
        return Counter(chain.from_iterable(self.classes))

    def rows(self, name: str) -> list[int]:
        """The images of one class."""
        return [k for k, each in enumerate(self.classes) if name in each]

    def take(self, rows: Sequence[int], name: str | None = None) -> "ComparedSet":
        """Some of the images, as a side of its own."""
        return ComparedSet(
            name or self.name,
            self.images.take(rows),
            _surveyed(self.survey, rows),
            {key: x[list(rows)] for key, x in self.features.items()},
            {key: [values[k] for k in rows] for key, values in self.columns.items()},
            [self.classes[k] for k in rows],
        )


def _surveyed(survey: Survey, rows: Sequence[int]) -> Survey:
    """What is known of some readable rows."""
    columns: dict[str, Any] = {n: [getattr(survey, n)[k] for k in rows] for n in _SURVEYED}
    return Survey(**columns)


def together(sets: Sequence[ComparedSet], name: str) -> ComparedSet:
    """All images of the sets, in their order."""
    first = sets[0]
    surveyed: dict[str, Any] = {
        name: list(chain.from_iterable(getattr(one.survey, name) for one in sets))
        for name in _SURVEYED
    }
    return ComparedSet(
        name,
        joined([one.images for one in sets]),
        Survey(**surveyed),
        {key: np.concatenate([one.features[key] for one in sets]) for key in first.features},
        {key: [v for one in sets for v in one.columns[key]] for key in first.columns},
        [each for one in sets for each in one.classes],
    )


def make_set(name: str, images: ImageSet, extracted: Extracted, naming: Naming) -> ComparedSet:
    """The readable images of a set with their features and classes."""
    rows = extracted.rows.tolist()
    columns = {key: [v[k] for k in rows] for key, v in columns_of(images, naming.by).items()}
    columns = naming.fill(columns)
    return ComparedSet(
        name,
        images.take(rows),
        _surveyed(extracted.survey, rows),
        extracted.features,
        columns,
        naming.classes(columns),
    )
