"""Do the audits find what they should, and accuse nobody else?

    python -m benchmarks.privacy.audits --pairs PAIRS --work WORK --out OUT [--parts toy,aggregate,overfitted]
        [--runs 20] [--model mini] [--members 16] [--others 120] [--null 100]

toy: gradients of 500 canaries, each in or out by a coin, through the package's own private step: right
code, the noise left out, and clipping by image where a patient has eight. The bound is of one run; the
claim is epsilon 2. --runs is how often each is repeated with other coins and noise.

aggregate: 500 canaries beside 271 vectors of 384 numbers in the noisy sum of `dp-aggregate`: right code,
the noise left out, and vectors that are not cut to norm 1. The claim is epsilon 1.

canaries: the same three codes through `dp-lora` on --model and PAIRS, whose rows name patients, each
with 500 canaries in the gradient (`privacy.canaries`). The claim is epsilon 1.

coverage: canaries of whom each is answered truly with the chance e^epsilon / (1 + e^epsilon): how often
the bound is above that epsilon, of 400 audits each.

overfitted: a LoRA of --members images of PAIRS, a table of a set that the base has not seen, learnt by
heart (as in benchmarks.evaluate.membership), audited by the pairs that `vesalius evaluate` makes. Then
held-out against held-out: --null times the others are divided at random in two halves that the model
has not seen, and every attack is made on them as if one half had been trained on. pairs is the same by
the loss alone, one noise at each of four times: the audit and the AUROC, in a tenth of the time.

Seconds an image and model are told of the attacks, of each part: loss, CLiD, set-level test. WORK holds tables, runs and what was measured of
images, and a repeated call goes on from them. OUT receives a file for each part.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from benchmarks.evaluate.membership import CASES, SHARED, divided, errors, train
from benchmarks.recording import record, run, table
from vesalius.config import PrivacySettings, load_recipe
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.attacked import Attacked, _Asked, attacked
from vesalius.evaluate.metrics.audit import DELTA
from vesalius.evaluate.metrics.base import Case
from vesalius.evaluate.metrics.losses import proximal_errors
from vesalius.evaluate.metrics.membership import calibration, membership, set_test
from vesalius.evaluate.model import load_model
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.image_set import survey
from vesalius.pairs.table import read_pairs
from vesalius.statistics.privacy_audit import one_run_bound, paired_bound
from vesalius.statistics.roc import detection
from vesalius.statistics.share import exact_interval
from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.method import Method
from vesalius.train.methods import dp_aggregate
from vesalius.train.privacy import fine_tuning
from vesalius.train.privacy.accountant import calibrated
from vesalius.train.privacy.canaries import KEPT, bound, new_coins
from vesalius.train.privacy.gradient import PrivateGradient, clipped, new_secret
from vesalius.train.run import train_recipe
from vesalius.train.session import Session

CANARIES, IMAGES, STEPS, CLAIM = 500, 8, 4, 2.0
REAL_CLAIM = 1.0
REAL = (
    f"privacy.epsilon={REAL_CLAIM}", f"privacy.delta={DELTA}", f"privacy.canaries={CANARIES}",
    f"privacy.images_per_patient={IMAGES}", "privacy.noise_draws=1", f"privacy.steps={STEPS}",
    "size=256", "lora.targets=all", "optimisation.ema_half_life_images=0",
    "optimisation.validation_size=8",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, help="a set that the base has not seen")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default="toy,overfitted")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--others", type=int, default=120)
    parser.add_argument("--null", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    given = {name: str(value) for name, value in vars(args).items()}
    parts = {
        "coverage": lambda _: coverage(400), "toy": lambda _: toys(args.runs),
        "aggregate": lambda _: aggregates(args.runs),
        "canaries": with_canaries, "pairs": by_loss, "overfitted": overfitted,
    }  # fmt: skip
    for name, measure in parts.items():
        if name in args.parts.split(","):
            record(args.out, f"audits-{name}", measure(args), given)


def coverage(times: int) -> list[dict[str, Any]]:
    """How often the one-run bound is above the epsilon that is there."""
    found = []
    for epsilon, canaries in ((0.0, 100), (0.0, 1000), (3.0, 100), (3.0, 1000)):
        rng, bounds = np.random.default_rng(canaries), []
        for _ in range(times):
            member = rng.random(canaries) < 0.5
            answered = rng.random(canaries) < 1 / (1 + np.exp(-epsilon))
            scores = np.where(member == answered, 1, -1) * rng.random(canaries)
            bounds.append(one_run_bound(scores[member], scores[~member]).epsilon)
        above = sum(bound > epsilon for bound in bounds)
        one = {"epsilon": epsilon, "canaries": canaries, "above": above, "of": times}
        found.append(one | {"interval": exact_interval(above, times), "median": np.median(bounds)})
    table([[*found[0]], *([*one.values()] for one in found)])
    return found


class Directions(Method):
    """The gradient of each image of canary k is along axis k; that of one who is out is zero."""

    name = "directions"

    def __init__(self, member: Tensor) -> None:
        self.along = nn.Parameter(torch.zeros(CANARIES))
        self.module = nn.ParameterList([self.along])
        self.row_weights = torch.ones(CANARIES * IMAGES, dtype=torch.float64)
        self.member = member.float()

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        canary = rows // IMAGES
        return {"loss": -(self.along[canary] * self.member[canary]).mean()}

    def validate(self, module: nn.Module) -> dict[str, float]:
        return {"loss": 0.0}

    def save(self, module: nn.Module, folder: Path) -> None:
        """Nothing is kept of a toy."""


class ByImage(PrivateGradient):
    """The fault: each image is clipped by itself, and a patient counts as often as there are images."""

    def clipped_sum(self, weights: Any, step: int, micro: int | None = None) -> Tensor:
        total = torch.zeros(sum(weight.numel() for weight in weights.values()))
        for patient in self.drawn(step):
            for row in torch.tensor(self.patients[patient]).split(1):
                one = self._gradient(weights, row, torch.Generator(), None)
                total += clipped(one, self.settings.clip_norm)
        return total


class WithoutNoise(PrivateGradient):
    """The fault: nothing is added to the sums."""

    def noise(self, like: Tensor, step: int) -> Tensor:
        return torch.zeros_like(like)


CODES = {"right": PrivateGradient, "no noise": WithoutNoise, "clipping by image": ByImage}


def toys(runs: int) -> dict[str, Any]:
    """The bounds of each code, and how often they are above the claim."""
    found: dict[str, Any] = {}
    rows: list[list[Any]] = [["code", "bound", "least", "most", "above the claim", "of"]]
    for name, code in CODES.items():
        bounds = [toy(code, seed) for seed in range(runs)]
        above = sum(bound > CLAIM for bound in bounds)
        found[name] = {"bounds": bounds, "above": above, "interval": exact_interval(above, runs)}
        rows.append([name, float(np.median(bounds)), min(bounds), max(bounds), above, runs])
    table(rows)
    return found | {"claim": CLAIM}


def toy(code: type[PrivateGradient], seed: int) -> float:
    """The bound of one training."""
    member = torch.rand(CANARIES, generator=torch.Generator().manual_seed(seed)) < 0.5
    method = Directions(member)
    weights = dict(method.module.named_parameters())
    patients = [[*range(k * IMAGES, (k + 1) * IMAGES)] for k in range(CANARIES)]
    settings = PrivacySettings(
        epsilon=CLAIM, delta=DELTA, clip_norm=0.5, patients_per_step=CANARIES // 2, steps=STEPS,
        images_per_patient=IMAGES, noise_draws=1,
    )  # fmt: skip
    mechanism = calibrated(0.5, STEPS, CLAIM, DELTA)
    secret = {"secret": f"{seed:02x}"}
    gradient = code(method, patients, mechanism, settings, secret)
    total = torch.zeros(CANARIES)
    for step in range(STEPS):
        gradient(weights, step, None)
        for weight in weights.values():
            assert weight.grad is not None
            total -= weight.grad
            weight.grad = None
    return one_run_bound(total[member].numpy(), total[~member].numpy(), DELTA).epsilon


def aggregates(runs: int) -> dict[str, Any]:
    """The bounds of each code of an aggregation, and how often they are above the claim."""
    vectors = torch.nn.functional.normalize(torch.randn(271, 384), dim=1)
    sigma = calibrated(1.0, 1, REAL_CLAIM, DELTA).sigma
    faults = {
        "right": {},
        "no noise": {"torch.randn": lambda *shape, **_: torch.zeros(*shape)},
        "not cut": {"of_norm_one": lambda vector: vector},
    }
    found: dict[str, Any] = {"claim": REAL_CLAIM, "sigma": sigma}
    rows: list[list[Any]] = [["code", "bound", "least", "most", "above the claim", "of"]]
    for name, fault in faults.items():
        bounds = []
        for _ in range(runs):
            kept = {"secret": new_secret(), KEPT: new_coins(CANARIES)}
            with ExitStack() as stack:
                for place, instead in fault.items():
                    stack.enter_context(patch(f"{dp_aggregate.__name__}.{place}", instead))
                dp_aggregate.aggregate(vectors, sigma, kept)
            bounds.append(bound(kept, DELTA).epsilon)
        above = sum(each > REAL_CLAIM for each in bounds)
        found[name] = {"bounds": bounds, "above": above, "interval": exact_interval(above, runs)}
        rows.append([name, float(np.median(bounds)), min(bounds), max(bounds), above, runs])
    table(rows)
    return found


def with_canaries(args: argparse.Namespace) -> dict[str, Any]:
    """The bound of each code in a whole training, and whether the training wrote an adapter."""
    found: dict[str, Any] = {"claim": REAL_CLAIM}
    rows: list[list[Any]] = [["code", "bound", "right", "of", "ceiling", "adapter", "seconds"]]
    groups = read_pairs(args.pairs)
    patients = len({groups.column("group")[row] for row in groups.rows("train")})
    given = [*REAL, f"privacy.patients_per_step={patients // 2}"]
    for name, code in CODES.items():
        out, began = args.work / f"canaries-{name.replace(' ', '-')}", time.monotonic()
        recipe, session = load_recipe("dp-lora", given), Session(args.device, resume=True)
        with patch.object(fine_tuning, "PrivateGradient", code):
            try:
                train_recipe(recipe, args.pairs, out, args.model, session)
            except VesaliusError as error:
                print(error)
        newest = newest_checkpoint(out / "private" / "checkpoints")
        assert newest is not None
        kept = newest.state["kept"]["canaries"]
        inside, scores = np.array(kept["inside"]), np.array(kept["scores"])
        bound = one_run_bound(scores[inside], scores[~inside], DELTA)
        written, took = (out / "adapter").exists(), time.monotonic() - began
        found[name] = asdict(bound) | {"adapter": written, "seconds": took}
        rows.append([name, bound.epsilon, bound.right, bound.guesses, bound.ceiling, written, took])
    table(rows)
    return found | {"patients": patients}


def the_lora(args: argparse.Namespace) -> tuple[list[int], list[int], Path]:
    """Rows that the LoRA was trained on, rows that it was not, and its folder."""
    order = np.random.default_rng(0).permutation(pq.read_metadata(args.pairs).num_rows).tolist()
    own, others = order[: args.members], order[-args.others :]
    adapter = args.work / "overfitted"
    if not (adapter / "adapter").is_dir():
        divided_table = divided(args.pairs, args.work / "overfitted.parquet", own, others)
        train(divided_table, adapter, (*SHARED, "size=256", *CASES["overfitted"]), args)
    return own, others, adapter / "adapter"


def by_loss(args: argparse.Namespace) -> dict[str, Any]:
    """The audit and the AUROC by the loss alone, of members and of strangers."""
    own, others, adapter = the_lora(args)
    rows, pairs, seen = [*own, *others], read_pairs(args.pairs), len(own)
    asked = argparse.Namespace(**vars(args), size=256, noises=1)
    base = errors(pairs, rows, None, asked).mean(1)
    fell = base - errors(pairs, rows, adapter, asked).mean(1)
    bound = paired_bound(fell[:seen] - fell[seen : 2 * seen], DELTA)
    member = np.arange(2 * seen) < seen
    found = {
        "bound": asdict(bound),
        "auroc": detection(fell[: 2 * seen], member).auroc.as_dict(),
        "auroc_of_base": detection(-base[: 2 * seen], member).auroc.as_dict(),
    }
    rng, alarms = np.random.default_rng(0), {"audit": 0, "loss": 0}
    strangers, half = fell[seen:], len(others) // 2
    for _ in range(args.null):
        first, second = np.split(rng.permutation(strangers)[: 2 * half], 2)
        alarms["audit"] += paired_bound(first - second, DELTA).epsilon > 0
        dealt_scores = np.concatenate([first, second])
        alarms["loss"] += (detection(dealt_scores, np.arange(2 * half) < half).auroc.low or 0) > 0.5
    found["null"] = {
        name: {"alarms": count, "times": args.null, "interval": exact_interval(count, args.null)}
        for name, count in alarms.items()
    }
    print(bound, found, sep="\n")
    return found | {"pairs_of_strangers": half}


def overfitted(args: argparse.Namespace) -> dict[str, Any]:
    """Every attack on the LoRA, with members and without, and how long they take."""
    own, others, adapter = the_lora(args)
    half = len(others) // 2
    first, took = attacked_once(args, adapter, own, others, "members")
    found = {"members": attacks(first), "seconds_an_image_and_model": took}
    show(found["members"])
    whole, _ = attacked_once(args, adapter, others[:half], others[half:], "strangers")
    found["null"] = nulls(whole, args.null)
    print(found["null"], took)
    return found


PARTS = ("loss", "clid", "set")


def attacked_once(
    args: argparse.Namespace, adapter: Path, own: list[int], others: list[int], name: str
) -> tuple[Attacked, dict[str, float]]:
    """What was measured of two sides, kept in WORK, and the seconds an image and model that each part took."""
    kept = args.work / f"attacked-{name}.npz"
    if not kept.exists():
        sides = {TRAIN: the_set(args.pairs, own), HELD_OUT: the_set(args.pairs, others)}
        model = load_model(args.model, [str(adapter)], args.device)
        took: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        with patch.object(_Asked, "__call__", timed(_Asked.__call__, took)):
            seen = attacked(Case(sides[TRAIN], sides, {}, [], []), model.generator, model.base)
        each = [took[part] / (2 * 2 * seen.images) for part in PARTS]
        np.savez(kept, took=each, **vars(seen))
    with np.load(kept) as stored:
        values: dict[str, Any] = {f.name: stored[f.name] for f in fields(Attacked)}
        values.update({name: int(values[name]) for name in ("pairs", "images")})
        return Attacked(**values), dict(zip(PARTS, stored["took"].tolist(), strict=True))


def timed(ask: Callable[..., np.ndarray], took: dict[str, float]) -> Callable[..., np.ndarray]:
    """`ask`, which adds its seconds of processor time to those of the attack that it is for."""

    def asked(self: Any, by: Callable[..., np.ndarray], *rest: Any, **how: Any) -> np.ndarray:
        began = time.process_time()
        found = ask(self, by, *rest, **how)
        of_set = by is proximal_errors or "times" in how
        took["set" if of_set else "clid" if how else "loss"] += time.process_time() - began
        return found

    return asked


def the_set(pairs: Path, rows: list[int]) -> ComparedSet:
    """Some rows, each a patient of its own, of one class."""
    images = read_pairs(pairs).take(rows)
    columns = {name: [""] * len(rows) for name in ("label", "group", "source")}
    columns["caption"] = images.column("caption")
    return ComparedSet("rows", images, survey(images), {}, columns, [frozenset()] * len(rows))


def attacks(seen: Attacked) -> dict[str, Any]:
    """The figures that a report has of them."""
    member, base = seen.member, seen.base_errors
    known = None if base is None else (base[member], base[~member])
    by_loss = membership(seen.errors[member], seen.errors[~member], known).detection
    bound = paired_bound(seen.loss[: seen.pairs] - seen.loss[seen.pairs :], DELTA)
    clid = replace(detection(seen.clid, member).auroc, name="clid")
    figures = [by_loss.auroc, by_loss.found, clid, *calibration(seen), *set_test(seen)]
    return {"bound": asdict(bound)} | {f.name: f.as_dict() for f in figures}


def show(found: dict[str, Any]) -> None:
    rows = [["figure", "value", "low", "high"]]
    rows += [
        [name, f["value"], f["low"], f["high"]] for name, f in found.items() if name != "bound"
    ]
    table(rows)
    print(found["bound"])


def nulls(seen: Attacked, times: int) -> dict[str, Any]:
    """How often an attack accuses, of so many divisions of people whom the model has not seen."""
    rng, alarms = np.random.default_rng(0), dict.fromkeys(("audit", "loss", "clid", "set_test"), 0)
    for _ in range(times):
        order = rng.permutation(2 * seen.pairs)
        found = attacks(dealt(seen, order))
        alarms["audit"] += found["bound"]["epsilon"] > 0
        alarms["loss"] += found["auroc"]["low"] > 0.5
        alarms["clid"] += found["clid"]["low"] > 0.5
        alarms["set_test"] += (found["set_test"]["value"] or 1) <= 0.05
    each = {name: (count, exact_interval(count, times)) for name, count in alarms.items()}
    return {"times": times, "pairs": seen.pairs, "alarms": each}


def dealt(seen: Attacked, order: np.ndarray) -> Attacked:
    """The same people in another order: the first half are called members."""

    def of(values: Any) -> Any:
        return None if values is None else values[order]

    return replace(
        seen,
        errors=of(seen.errors), base_errors=of(seen.base_errors), clid=of(seen.clid),
        base_clid=of(seen.base_clid), features=of(seen.features),
        base_features=of(seen.base_features), blind=of(seen.blind),
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
