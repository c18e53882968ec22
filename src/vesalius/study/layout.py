"""What lies where in the folder of a study."""

from dataclasses import dataclass
from pathlib import Path

from vesalius.errors import VesaliusError

PROTOCOL = "protocol.yaml"


@dataclass(frozen=True)
class Layout:
    """The files of a study in `folder`; none of them is opened here."""

    folder: Path

    @property
    def protocol(self) -> Path:
        """What was decided, to read and edit before the lock."""
        return self.folder / PROTOCOL

    @property
    def build(self) -> Path:
        """What `build` drew from, left out and warned of. It names sets, but no single image."""
        return self.folder / "build.json"

    @property
    def images(self) -> Path:
        """The folder of equalised images, whose names are random."""
        return self.folder / "images"

    @property
    def key(self) -> Path:
        """What each image is. The server never opens it."""
        return self.folder / "key.parquet"

    @property
    def key_trials(self) -> Path:
        """What each trial is, with its right answer. The server never opens it."""
        return self.folder / "key-trials.parquet"

    @property
    def check(self) -> Path:
        """What a machine can see."""
        return self.folder / "check.json"

    @property
    def power(self) -> Path:
        """What so many readers and cases can show."""
        return self.folder / "power.json"

    @property
    def lock(self) -> Path:
        """Hashes of everything that must not change any more."""
        return self.folder / "protocol.lock.json"

    @property
    def preregistration(self) -> Path:
        """The page to hand in."""
        return self.folder / "preregistration.md"

    @property
    def database(self) -> Path:
        """Readers, trials and answers, without any arm."""
        return self.folder / "study.sqlite"

    @property
    def export(self) -> Path:
        """The folder of tables for other programs."""
        return self.folder / "export"

    @property
    def results(self) -> Path:
        """Figures and sentences."""
        return self.folder / "results.json"

    @property
    def report(self) -> Path:
        """The page of the results."""
        return self.folder / "report.html"

    def image(self, name: str) -> Path:
        """The file of an image."""
        return self.images / f"{name}.png"


def open_study(folder: Path | str) -> Layout:
    """The layout of a study that `build` made. Raises VesaliusError where there is none."""
    layout = Layout(Path(folder))
    if not layout.protocol.is_file():
        raise VesaliusError(
            f"{folder} is no study (it has no {PROTOCOL}): make one by `vesalius study build`"
        )
    return layout
