"""Do the audits find what they should, and accuse nobody else?

    python -m benchmarks.privacy.audits --pairs PAIRS --work WORK --out OUT [--parts toy,overfitted]
        [--runs 20] [--model mini] [--members 16] [--others 120] [--null 100]

toy: gradients of 500 canaries, each in or out by a coin, through the package's own private step: right
code, the noise left out, and clipping by image where a patient has eight. The bound is of one run; the
claim is epsilon 2. --runs is how often each is repeated with other coins and noise.

overfitted: a LoRA of --members images of PAIRS, a table of a set that the base has not seen, learnt by
heart (as in benchmarks.evaluate.membership), audited by the pairs that `vesalius evaluate` makes. Then
held-out against held-out: --null times the others are divided at random in two halves that the model
has not seen, and every attack is made on them as if one half had been trained on. pairs is the same by
the loss alone, one noise at each of four times: the audit and the AUROC, in a tenth of the time.

WORK holds tables and runs, and a repeated call goes on from them. OUT receives audits.json.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from benchmarks.evaluate.membership import CASES, SHARED, divided, errors, train
from benchmarks.recording import record, run, table
from vesalius.config import PrivacySettings
from vesalius.evaluate.metrics.attacked import Attacked, attacked
from vesalius.evaluate.metrics.audit import DELTA
from vesalius.evaluate.metrics.base import Case
from vesalius.evaluate.metrics.membership import calibration, membership, set_test
from vesalius.evaluate.model import load_model
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.image_set import survey
from vesalius.pairs.table import read_pairs
from vesalius.statistics.privacy_audit import one_run_bound, paired_bound
from vesalius.statistics.roc import detection
from vesalius.statistics.share import exact_interval
from vesalius.train.method import Method
from vesalius.train.privacy.accountant import calibrated
from vesalius.train.privacy.gradient import PrivateGradient, clipped

CANARIES, IMAGES, STEPS, CLAIM = 500, 8, 4, 2.0


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
    figures: dict[str, Any] = {}
    if "toy" in args.parts.split(","):
        figures["toy"] = toys(args.runs)
    if "overfitted" in args.parts.split(","):
        figures["overfitted"], figures["null"] = overfitted(args)
    if "pairs" in args.parts.split(","):
        figures["pairs"] = by_loss(args)
    given = {name: str(value) for name, value in vars(args).items()}
    record(args.out, "audits", figures, given)


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
        total = torch.zeros(CANARIES)
        for patient in self.drawn(step):
            for row in torch.tensor(self.patients[patient]).split(1):
                one = self._gradient(weights, row, torch.Generator(), None)
                total += clipped(one, self.settings.clip_norm)
        return total


def without_noise(gradient: PrivateGradient) -> PrivateGradient:
    return replace(gradient, mechanism=replace(gradient.mechanism, sigma=0.0))


BREAK: dict[str, Callable[[PrivateGradient], PrivateGradient]] = {
    "right": lambda gradient: gradient,
    "no noise": without_noise,
    "clipping by image": lambda gradient: ByImage(**vars(gradient)),
}


def toys(runs: int) -> dict[str, Any]:
    """The bounds of each code, and how often they are above the claim."""
    found: dict[str, Any] = {}
    rows: list[list[Any]] = [["code", "bound", "least", "most", "above the claim", "of"]]
    for name, broken in BREAK.items():
        bounds = [toy(broken, seed) for seed in range(runs)]
        above = sum(bound > CLAIM for bound in bounds)
        found[name] = {"bounds": bounds, "above": above, "interval": exact_interval(above, runs)}
        rows.append([name, float(np.median(bounds)), min(bounds), max(bounds), above, runs])
    table(rows)
    return found | {"claim": CLAIM}


def toy(broken: Callable[[PrivateGradient], PrivateGradient], seed: int) -> float:
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
    gradient = broken(PrivateGradient(method, patients, mechanism, settings, secret))
    total = torch.zeros(CANARIES)
    for step in range(STEPS):
        gradient(weights, step, None)
        for weight in weights.values():
            assert weight.grad is not None
            total -= weight.grad
            weight.grad = None
    return one_run_bound(total[member].numpy(), total[~member].numpy(), DELTA).epsilon


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


def overfitted(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every attack on the LoRA, with members and without."""
    own, others, adapter = the_lora(args)
    model = load_model(args.model, [str(adapter)], args.device)
    first = attacked(
        Case(
            the_set(args.pairs, own),
            {TRAIN: the_set(args.pairs, own), HELD_OUT: the_set(args.pairs, others)},
            {}, [], [],
        ),
        model.generator, model.base,
    )  # fmt: skip
    found = attacks(first)
    show(found)
    half = len(others) // 2
    sides = {
        TRAIN: the_set(args.pairs, others[:half]),
        HELD_OUT: the_set(args.pairs, others[half:]),
    }
    whole = attacked(Case(sides[TRAIN], sides, {}, [], []), model.generator, model.base)
    alarms = nulls(whole, args.null)
    print(alarms)
    return found, alarms


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
