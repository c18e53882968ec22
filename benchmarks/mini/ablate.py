"""Variants of the bundled model's recipe at equal training time: which choice pays?

    python -m benchmarks.mini.ablate --pairs PAIRS --out OUT --autoencoder MODEL --seconds 1200 \
        [--device cpu] [--threads 1] [--only light,today] [KEY=VALUE ...]

The variants stand in ablations.yaml beside this file: a recipe, and for each name the overrides that
make it another. Each is timed for a few steps, which gives the images that it can see in --seconds;
then it is trained on so many, its learning rate falling to zero over the last third, on the latents
of MODEL's autoencoder. Seconds are of the processor on a CPU, so that other work beside it does not
count, and of the clock on a GPU. A call that was stopped goes on when it is repeated.

Prints, and writes to ablate.json, images a second, images seen and the validation loss: the same
held-out images, noise and times for all variants of one size. The generators are left in
OUT/NAME/generator: `benchmarks.mini.compare` holds their images to real ones.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.recording import record, run, table
from vesalius.config import Recipe, load_recipe
from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_device
from vesalius.train.run import train_recipe
from vesalius.train.session import Session

VARIANTS = Path(__file__).with_name("ablations.yaml")
TIMED_STEPS = 60
COOLED = 0.35  # of the images, at a falling learning rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of all variants")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder", required=True, help="the model whose latents are learnt")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--only", help="names of variants, with commas")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of the processor")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = str(pick_device(args.device))
    document = yaml.safe_load(VARIANTS.read_text("utf-8"))
    names = args.only.split(",") if args.only else list(document["variants"])
    figures = []
    for name in names:
        recipe = varied(document, name, args)
        figures.append({"variant": name} | trained(recipe, args.out / name, args, device))
        show(figures)
    settings = {key: str(value) for key, value in vars(args).items()}
    record(args.out, "ablate", figures, settings)


def varied(document: dict[str, Any], name: str, args: argparse.Namespace) -> Recipe:
    """The recipe of a variant, left in OUT/NAME/variant.yaml. Raises VesaliusError for no such one."""
    if name not in document["variants"]:
        raise VesaliusError(f"no variant {name!r}: there are {', '.join(document['variants'])}")
    values = merged(document["recipe"], document["variants"][name] or {})
    values["autoencoder"] = args.autoencoder
    with atomic_path(args.out / name / "variant.yaml") as path:
        path.write_text(yaml.safe_dump(values, sort_keys=False))
    return load_recipe(str(args.out / name / "variant.yaml"), args.overrides)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second's values in place of the first's."""
    deeper = {
        key: merged(base[key], value)
        for key, value in changes.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | changes | deeper


def trained(recipe: Recipe, out: Path, args: argparse.Namespace, device: str) -> dict[str, Any]:
    """Train a variant for the time that all have; return its figures."""
    share(args.out / "latents", out)
    img_per_sec = pace(recipe, args, out / "timed", device)
    plan = recipe.denoiser.optimisation
    images = max(1, int(args.seconds * img_per_sec) // plan.batch) * plan.batch
    long = with_plan(
        recipe,
        seen_images=images,
        decay_images=int(COOLED * images),
        validate_images=max(plan.batch, images // 8),
    )
    train_recipe(long, args.pairs, out, session=Session(device, resume=True))
    validated = [each for each in logged(out) if "validation" in each]
    losses = {each["seen_images"]: each["validation"]["loss"] for each in validated}
    return {"img/s": img_per_sec, "images": images, "loss": min(losses.values()), "losses": losses}


def pace(recipe: Recipe, args: argparse.Namespace, out: Path, device: str) -> float:
    """Images a second of a few steps; of a CPU, a second of all its threads at work on nothing else."""
    path = out / "pace.json"
    if not path.exists():
        share(args.out / "latents", out)
        batch = recipe.denoiser.optimisation.batch
        short = with_plan(recipe, seen_images=TIMED_STEPS * batch, validate_images=10**9)
        clock, processor = time.perf_counter(), time.process_time()
        train_recipe(short, args.pairs, out, session=Session(device, resume=True))
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        slowed = clock * torch.get_num_threads() / processor if device == "cpu" else 1.0
        rate = [each["img_per_sec"] for each in logged(out) if "img_per_sec" in each][-1]
        path.write_text(json.dumps(rate * slowed))
    return float(json.loads(path.read_text()))


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "denoiser" / "log.jsonl").read_text().splitlines()]


def with_plan(recipe: Recipe, **changes: Any) -> Recipe:
    plan = recipe.denoiser.optimisation.model_copy(update=changes)
    denoiser = recipe.denoiser.model_copy(update={"optimisation": plan})
    return recipe.model_copy(update={"denoiser": denoiser})


def share(latents: Path, out: Path) -> None:
    """Let a run in `out` use latents that others use too."""
    out.mkdir(parents=True, exist_ok=True)
    latents.mkdir(parents=True, exist_ok=True)
    if not (out / "latents").exists():
        (out / "latents").symlink_to(latents.resolve())


def show(figures: list[dict[str, Any]]) -> None:
    head = ["variant", "img/s", "images", "loss"]
    lines: list[list[Any]] = [head]
    for each in figures:
        plain = [each[name] for name in ("variant", "img/s", "images")]
        lines.append([*plain, f"{each['loss']:.4f}"])
    print()
    table(lines)


if __name__ == "__main__":
    run(main)
