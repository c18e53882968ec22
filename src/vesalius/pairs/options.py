"""Everything that decides what is in a pairs table, but its sources."""

from dataclasses import dataclass, field
from typing import Literal

from vesalius.pairs.readers.base import ReaderOptions


@dataclass(frozen=True)
class PairsOptions:
    """Everything that decides what is in a pairs table, but its sources."""

    reader: str = "auto"
    captions: str | None = None  # a dictionary: a bundled name or a .yaml file
    split: str = "auto"  # see divide
    test: tuple[str, ...] = ()  # sha1 or key of rows that lie in test, see divide
    stratify: bool = True
    folds: int = 0  # 0: no column `fold`
    shots: int = 0  # rows a label that stay in train; 0: all
    fraction: float = 1.0  # of the training groups that stay in train
    duplicates: Literal["group", "keep", "drop"] = "group"
    copy_detector: str | None = None  # see embedding.embed; finds copies that were edited further
    alike: float = 0.85  # cosine similarity of two embeddings, to call the images copies
    seed: int = 0
    text_encoder: str = "mini"  # whose token budget is reported; "none" for no report
    reading: ReaderOptions = field(default_factory=ReaderOptions)
