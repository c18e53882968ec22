"""What `vesalius serve` can be asked for, and the bounds of what it is asked by others. No torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError
from vesalius.web.settings import ServerSettings

MOST_QUEUED = 32  # jobs that wait or run
MOST_IMAGES = 16  # of one job
MOST_STEPS = 150
MOST_BODY = 16_000_000  # bytes of a request
MOST_UPLOADED_PIXELS = 4096 * 4096
MOST_KEPT_MASK = 32_000  # characters; a mask painted by hand takes a few hundred
MOST_ADAPTERS = 8
MOST_PARTS = 8

OFFER = "What is offered"


@dataclass(frozen=True)
class ServeSettings(ServerSettings):
    """`vesalius serve`."""

    models: Annotated[
        tuple[str, ...],
        Help(
            "A model that can be chosen: a bundled name, a folder or a hub id; the first is the "
            "default; may be given repeatedly.",
            flags=("--model",),
            unset="mini",
            panel=OFFER,
        ),
    ] = ("mini",)
    adapters: Annotated[
        tuple[Path, ...],
        Help(
            "A LoRA or textual inversion that can be chosen; may be given repeatedly.",
            flags=("--adapter",),
            unset="none",
            panel=OFFER,
        ),
    ] = ()
    show: Annotated[
        tuple[Path, ...],
        Help(
            "A synthetic set, or a folder with a report, to look at; may be given repeatedly.",
            flags=("--show",),
            unset="none",
            panel=OFFER,
        ),
    ] = ()
    show_training: Annotated[
        bool,
        Help("Show the real images that reports contain; they may be of patients.", panel=OFFER),
    ] = False
    library: Annotated[Path, Help("Folder of jobs and of all images made.")] = Path(
        "vesalius-library"
    )
    users: Annotated[
        tuple[str, ...],
        Help(
            "Who may use it; each has an address and a key; may be given repeatedly.",
            flags=("--user",),
            unset="lab",
        ),
    ] = ("lab",)
    device: Annotated[str, Help("auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    dtype: Annotated[str, Help("auto, float32, float16 or bfloat16.")] = "auto"
    threads: Annotated[
        int | None, Help("CPU threads that draw.", least=1, unset="one for each core")
    ] = None
    largest: Annotated[int, Help("Pixels of one image at most, width times height.", least=1)] = (
        1024 * 1024
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models:
            raise VesaliusError("--model names no model")
        for what, names in (("--model", self.models), ("--user", self.users)):
            if len(set(names)) != len(names):
                raise VesaliusError(f"{what} names the same one twice")
        for user in self.users:
            if not user.isprintable() or not user.strip() or len(user) > 40 or ":" in user:
                raise VesaliusError(f"--user {user!r}: give a short name without a colon")
        if not self.users:
            raise VesaliusError("--user names nobody")
