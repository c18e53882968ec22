"""The protocol of a study: what readers are asked, how often, and what will count as what.

`protocol.yaml` is written by `build` with every value spelled out. Texts, margins, breaks and the viewer
may be edited until the lock; whatever decides images or trials needs a new `build --protocol FILE`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from vesalius.config import Part, validated
from vesalius.core.atomic import atomic_path
from vesalius.core.documents import read_yaml, write_page
from vesalius.errors import VesaliusError

FORMAT = 1
TaskName = Literal["turing", "pair", "quality", "alignment", "diagnosis"]
UNAWARE_TASKS = ("quality", "diagnosis")  # can be asked without a word of synthetic images
WITH_FAKES = ("turing", "pair", "quality")

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class ReaderEntry(Part):
    """Somebody who will read. Tasks of a specialty are only for readers of it."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    specialty: str = ""


class Task(Part):
    """One kind of question. Numbers are those of each reader."""

    task: TaskName
    question: str
    trials: Positive = 100  # scored ones, half of them real images; of a pair each shows one
    repeats: Share = 0.1  # of the trials, shown again a third of the task or more later
    fakes: Count = 0  # gross fakes, which an attentive reader cannot miss
    same: Share = 0.0  # of the trials of a pair: as many more show two real images
    compare: Literal["realism", "preference"] = "realism"  # what a pair is compared for
    ties: bool = False  # whether a pair may be called equal
    specialty: str = ""  # "" is all readers
    anchors: Annotated[dict[int, str], Field(default_factory=dict)]  # what 1 to 5 mean
    labels: tuple[str, ...] = ()  # that are offered for a diagnosis
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.1  # inside which arms count as equal

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Task":
        if self.task != "pair" and self.trials % 2:
            raise ValueError(f"trials of {self.task} are even in number, as half are real")
        if self.task not in WITH_FAKES and self.fakes:
            raise ValueError(f"{self.task} has no gross fakes: set fakes to 0")
        if self.task != "pair" and self.same:
            raise ValueError(f"{self.task} shows one image at a time: set same to 0")
        if self.task in ("quality", "alignment") and sorted(self.anchors) != [1, 2, 3, 4, 5]:
            raise ValueError(f"anchors of {self.task} give words to 1, 2, 3, 4 and 5")
        if self.task == "diagnosis" and len(set(self.labels)) < 2:
            raise ValueError("labels of a diagnosis are two or more")
        return self


class BreakAfter(Part):
    """A break is offered after so many trials or minutes, whichever is first."""

    trials: Positive = 50
    minutes: Positive = 25


class Viewer(Part):
    """Whether zoom and window stay from one image to the next."""

    keep_zoom: bool = False
    keep_window: bool = False


class Pixels(Part):
    """What every image of the study has in common."""

    width: Positive
    height: Positive
    grey: bool = False  # one channel on all arms
    lossy: bool = False  # all images went through the same JPEG at last
    quality: Annotated[int, Field(ge=1, le=100)] | None = None  # of that JPEG


class Protocol(Part):
    """See docs/study.md. Frozen; unknown fields are errors."""

    format: Literal[1] = FORMAT
    title: str
    question: str
    seed: int = 0
    readers: Annotated[tuple[ReaderEntry, ...], Field(min_length=1)]
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    training: Count = 6  # cases with feedback before each task, which are not analysed
    unaware_first: bool = False  # half of quality and diagnosis before synthetic images are named
    break_after: BreakAfter = BreakAfter()
    viewer: Viewer = Viewer()
    pixels: Pixels
    consent: str

    @model_validator(mode="after")
    def _fits_together(self) -> "Protocol":
        names = [reader.name.casefold() for reader in self.readers]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"two readers are called {min(twice)!r}: give each a name of their own"
            )
        kinds = [task.task for task in self.tasks]
        if len(set(kinds)) < len(kinds):
            raise ValueError("each task may be there once")
        specialties = {reader.specialty for reader in self.readers}
        for task in self.tasks:
            if task.specialty and task.specialty not in specialties:
                raise ValueError(f"no reader has the specialty {task.specialty!r} of {task.task}")
        if self.unaware_first and not set(kinds) & set(UNAWARE_TASKS):
            raise ValueError(f"unaware_first needs a task that is {' or '.join(UNAWARE_TASKS)}")
        return self

    def tasks_of(self, reader: ReaderEntry) -> list[Task]:
        """The tasks that are for this reader."""
        return [task for task in self.tasks if task.specialty in ("", reader.specialty)]

    def task(self, name: str) -> Task:
        """The task of a name. Raises KeyError where there is none."""
        return {task.task: task for task in self.tasks}[name]

    def design(self) -> dict[str, Any]:
        """What decides images and trials: it stays as it was built."""
        texts = {"title", "question", "consent", "break_after", "viewer"}
        kept = self.model_dump(mode="json", exclude=texts)
        for task in kept["tasks"]:
            for name in ("question", "anchors", "margin", "ties"):
                del task[name]
        return kept

    def as_dict(self) -> dict[str, Any]:
        """For YAML and JSON."""
        return self.model_dump()


def read_protocol(path: Path) -> Protocol:
    """A protocol.yaml. Raises VesaliusError naming the field that is wrong."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise VesaliusError(f"{path} is no protocol: it should be a mapping of fields")
    return validated(Protocol, values, str(path))


def write_protocol(path: Path, protocol: Protocol) -> None:
    """Write a protocol as YAML, every value spelled out."""
    text = yaml.safe_dump(protocol.as_dict(), sort_keys=False, allow_unicode=True, width=100)
    with atomic_path(path) as temporary:
        write_page(temporary, _HEADER + text)


_HEADER = """\
# The protocol of a reader study. Until `vesalius study lock`, texts, margins, breaks and the viewer may be
# edited here. What decides images or trials needs `vesalius study build --protocol` with this file.
"""
