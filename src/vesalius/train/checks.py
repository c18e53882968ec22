"""What would stop a run at its first step, looked at before the first image is encoded."""

from pathlib import Path

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.train.checkpoint import Checkpoint, newest_checkpoint
from vesalius.train.distributed import world_size
from vesalius.train.log import check_loggers
from vesalius.train.optimiser import check_optimiser, micro_batch
from vesalius.train.session import Session


def check_plan(plan: Optimisation, edges: tuple[str, ...] = ()) -> None:
    """Raise VesaliusError for a batch, an optimiser or a logger that cannot be had.

    `edges` are those of the method: without any, Muon cannot train it.
    """
    micro_batch(plan, world_size())
    check_optimiser(plan, edges)
    check_loggers(plan.loggers)


def begun(folder: Path, session: Session) -> Checkpoint | None:
    """The checkpoint that the run in `folder` goes on from.

    Raises VesaliusError where there is one and the session does not resume.
    """
    newest = newest_checkpoint(folder / "checkpoints", session.on_warning)
    if newest and not session.resume:
        raise VesaliusError(f"{folder} holds a run already: pass --resume or choose another --out")
    return newest
