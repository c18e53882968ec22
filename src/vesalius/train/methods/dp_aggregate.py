"""One new word from few patients, with a guarantee for each: aggregated embeddings (DPAgg-TI).

Each patient's images alone are inverted to vectors v_p, from one public beginning. With n public,

    v = (sum over p of v_p / |v_p| + N(0, sigma^2)) / n

is (epsilon, delta) private: a patient moves the sum by 1 at most, and noise is added once. What comes
out is v at the length that the beginning had, which is public. An inversion that is not finite counts
as zero.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vesalius.config import DpAggregateRecipe, Optimisation
from vesalius.core.atomic import atomic_path
from vesalius.train import distributed as ranks
from vesalius.train.checkpoint import check_checkpoint, load_tensors, save_checkpoint
from vesalius.train.checks import begun
from vesalius.train.draws import generator, on_device
from vesalius.train.methods.textual_inversion import (
    SplicedEmbedding,
    TextualInversionMethod,
    check,
    notes,
)
from vesalius.train.optimiser import learning_rate
from vesalius.train.privacy.canaries import KEPT, LONG, new_coins
from vesalius.train.privacy.fine_tuning import (
    PRIVATE,
    PrivateFineTuning,
    PrivateRun,
    audited,
    save_private,
)
from vesalius.train.resuming import made_with
from vesalius.train.rows import TrainingPairs
from vesalius.train.session import Session, Trained

INVERSIONS = "inversions"  # (n, V D) in a checkpoint, each of norm 1
BLOCK = 8  # patients between two checkpoints


def invert(method: TextualInversionMethod, rows: list[int], plan: Optimisation) -> Tensor:
    """The vectors (V D,) that one patient's rows are inverted to, at norm 1; zero if not finite."""
    vectors = vectors_of(method)
    start = vectors.detach().clone()
    optimiser = torch.optim.AdamW(
        [vectors], lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay
    )
    for seen in range(0, plan.seen_images, plan.batch):
        # of the patient's own rows, so that what is drawn depends on no other patient
        draw = generator(plan.seed, "inversion", seen)
        chosen = torch.randint(len(rows), (plan.batch,), generator=draw)
        method.loss(torch.tensor(rows)[chosen], draw)["loss"].backward()
        optimiser.param_groups[0]["lr"] = learning_rate(seen, plan)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    found = vectors.detach().flatten().clone()
    with torch.no_grad():
        vectors.copy_(start)
    return of_norm_one(found)


def of_norm_one(vector: Tensor) -> Tensor:
    """`vector` (d,) over its norm; zero where that is zero or not finite."""
    length = vector.norm()
    return torch.where(torch.isfinite(length) & (length > 0), vector / length, 0.0)


def canary_vectors(inside: list[bool]) -> Tensor:
    """(m, m): canaries as patients' inversions are, each along a number of its own; zero where out."""
    return torch.stack([of_norm_one(vector) for vector in torch.diag(LONG * torch.tensor(inside))])


def noisy_sum(parts: list[Tensor], sigma: float, secret: str) -> list[Tensor]:
    """The sum (d,) of each part's vectors (n, d), of norm at most 1, with N(0, sigma^2) on all."""
    total = torch.cat([vectors.sum(0) for vectors in parts])
    draw = on_device(generator(secret, "noise"), str(total.device))
    noise = torch.randn(total.shape, generator=draw, device=total.device)
    return [*(total + sigma * noise).split([vectors.shape[1] for vectors in parts])]


def aggregate(inversions: Tensor, sigma: float, kept: dict[str, Any]) -> Tensor:
    """The mean (d,) of inversions (n, d) of norm at most 1, with noise of `kept`'s secret on their sum.

    Where `kept` has canaries, their scores are what the noisy sum says along each.
    """
    parts = [inversions]
    if KEPT in kept:
        parts.append(canary_vectors(kept[KEPT]["inside"]).to(inversions))
    total, *along = noisy_sum(parts, sigma, kept["secret"])
    for scores in along:
        kept[KEPT]["scores"] = scores.tolist()
    return total / len(inversions)


def vectors_of(method: TextualInversionMethod) -> torch.nn.Parameter:
    """The vectors that are trained, (V, D)."""
    return next(m for m in method.module.modules() if isinstance(m, SplicedEmbedding)).vectors


@dataclass(frozen=True)
class Aggregation(PrivateFineTuning):
    """The `Kind`: an inversion for each patient, resumable, then their mean."""

    def _train_one(
        self, recipe: Any, pairs: TrainingPairs, out: Path, latents: Path, session: Session
    ) -> Trained:
        began = time.monotonic()
        run = self._open(recipe, pairs, out, latents, session)
        method, plan = run.method, recipe.optimisation
        if recipe.privacy.canaries:
            method.kept[KEPT] = new_coins(recipe.privacy.canaries)
        inversions = inverted(run, plan, out / PRIVATE, session)
        mean = aggregate(inversions, run.setting.mechanism.sigma, method.kept)
        if recipe.privacy.canaries:
            run = replace(run, card=audited(run, session))
        vectors = vectors_of(method)
        with torch.no_grad():  # the length is the beginning's: public, and none that noise decides
            vectors.copy_((mean / mean.norm() * vectors.norm()).view(vectors.shape))
        loss = method.validate(method.module)["loss"]
        best = out / PRIVATE / "best"
        ranks.on_first_rank(partial(replace_folder, method, best))
        ranks.on_first_rank(partial(save_private, run, best, out))
        seen, seconds = plan.seen_images * len(run.patients), time.monotonic() - began
        known = loss if math.isfinite(loss) else None
        return Trained(out / "adapter", "adapter", seen, seconds, known)


def replace_folder(method: TextualInversionMethod, folder: Path) -> None:
    """Save what was trained, in the place of what was there."""
    with atomic_path(folder) as temporary:
        method.save(method.module, temporary)


def inverted(run: PrivateRun, plan: Optimisation, out: Path, session: Session) -> Tensor:
    """The inversions (n, d) of all patients, those of a checkpoint in `out` among them."""
    method, patients = run.method, run.patients
    vectors, about = vectors_of(method), made_with(method, plan)
    found = torch.zeros(len(patients), vectors.numel(), device=vectors.device)
    done = 0
    if newest := begun(out, session):
        check_checkpoint(newest, {}, about)
        method.kept.update(newest.state["kept"])
        done = newest.state["seen_images"] // plan.seen_images
        found[:] = load_tensors(newest)[INVERSIONS].to(found)
    with session.progress("inversions of patients") as progress:
        for first in range(done, len(patients), BLOCK):
            block = range(first, min(first + BLOCK, len(patients)))
            for patient in block[ranks.rank() :: ranks.world_size()]:
                found[patient] = invert(method, patients[patient], plan)
            found[first : block.stop] = ranks.sum_over_ranks(found[first : block.stop].clone())
            state = {"seen_images": block.stop * plan.seen_images, "kept": method.kept}
            tensors = {INVERSIONS: found.cpu()}
            ranks.on_first_rank(
                partial(save_checkpoint, out / "checkpoints", tensors, state, about)
            )
            progress(block.stop, len(patients))
    return found


KIND = Aggregation(DpAggregateRecipe, TextualInversionMethod, notes, check)
