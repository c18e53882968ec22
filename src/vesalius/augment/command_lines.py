"""The commands that do the same step by step, for who wants to go on by hand."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vesalius.augment.choose import Amount, Choice
from vesalius.augment.settings import Settings
from vesalius.augment.steps import EVIDENCE, FEATURES, PAIRS, PLAN, RUN, SET, UTILITY, Step

PARTS = ("fidelity", "diversity", "alignment", "privacy")


def commands(
    out: Path,
    settings: Settings,
    choice: Choice,
    amount: Amount,
    format: str | None,
    adapters: Sequence[str],
    arms: Sequence[str],
    seen: Sequence[str],
    learned_from: Path | None,
) -> dict[Step, str]:
    """One command line a step; the division is `vesalius augment`'s own, and is checked."""
    pairs, made = out / PAIRS, out / SET
    generator = {"--model": str(out / RUN / "generator")}
    if choice.method != "full":
        generator = {"--model": settings.model}
    train = ["vesalius", "train", choice.recipe_name, "--model", settings.model]
    train += ["--pairs", str(pairs), "--out", str(out / RUN), *choice.overrides]
    way = {f"--{name.replace('_', '-')}": value for name, value in amount.way.items()}
    return {
        "pairs": shlex.join(["vesalius", "pairs", str(pairs), "--check"]),
        "train": "" if choice.method == "none" else shlex.join(train),
        "plan": _command(
            ["plan"], {"--pairs": pairs, **way, "--seed": settings.seed, "--out": out / PLAN}
        ),
        "synthesize": _command(
            ["synthesize", str(out / PLAN)],
            {
                **generator,
                "--adapter": list(adapters),
                "--steps": settings.steps,
                "--guidance": settings.guidance,
                "--guard": pairs,
                "--format": format,
                "--out": made,
            },
        ),
        "evaluate": _command(
            ["evaluate"],
            {
                "--real": pairs,
                "--synthetic": made,
                "--train": learned_from,
                "--extractors": ",".join(settings.extractors),
                "--only": ",".join(PARTS),
                "--match": True,
                "--seed": settings.seed,
                "--samples": settings.samples,
                "--store": out / FEATURES,
                "--out": out / EVIDENCE,
            },
        ),
        "utility": _command(
            ["utility"],
            {
                "--real": pairs,
                "--synthetic": made,
                "--arms": ",".join(arms) or None,
                "--ratios": ",".join(f"{ratio:g}" for ratio in settings.ratios),
                "--seeds": settings.seeds,
                "--backbone": settings.backbone,
                "--tune": settings.tune,
                "--steps": settings.classifier_steps,
                "--batch": batch_of(settings),
                "--side": settings.side,
                "--seen": list(seen),
                "--samples": settings.samples,
                "--allow-unproven": settings.allow_unproven,
                "--store": out / FEATURES,
                "--out": out / UTILITY,
            },
        ),
    }


def batch_of(settings: Settings) -> int:
    """Images a step of the classifiers."""
    return 64 if settings.tune == "probe" else 32


def _command(begin: Sequence[str], options: Mapping[str, Any]) -> str:
    words = ["vesalius", *begin]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                words.append(name)
            elif each is not None and each is not False:
                words += [name, str(each)]
    return shlex.join(words)
