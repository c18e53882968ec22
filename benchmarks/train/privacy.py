"""What a private step costs beside the same forward and backward passes without privacy.

    python -m benchmarks.train.privacy --out OUT [--model mini] [--patients 4] [--images 8,32]
        [--rank 4] [--repeats 5] [--device cpu]

A LoRA of all layers of the model's denoiser, on latents that are drawn, with as many of them in a
forward pass as a patient has images times noise draws. The private step draws, clips, sums, adds noise
and steps AdamW; the plain one accumulates the gradients of the same passes, clips their sum and steps
AdamW. Both take turns; the ratio is of the medians, and the smallest is that of the fastest.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.recording import record, run, table
from vesalius.config import PrivacySettings
from vesalius.models.adapters import add_lora
from vesalius.models.generator import load_generator
from vesalius.train.method import Method
from vesalius.train.privacy.accountant import Mechanism
from vesalius.train.privacy.gradient import PrivateGradient


class Drawn(Method):
    """Squared error of a denoiser on latents that are drawn; `rows` only say how many."""

    name = "drawn"

    def __init__(self, model: str, rank: int, rows: int, device: str) -> None:
        base = load_generator(model, device, "float32")
        self.module, self.device = base.unet, device
        self.row_weights = torch.ones(rows, dtype=torch.float64)
        add_lora(self.module, None, rank, rank, "all")
        config: Any = base.unet.config
        self.shape = (config.in_channels, config.sample_size, config.sample_size)
        self.text = torch.randn(base.tokenizer.model_max_length, config.cross_attention_dim)

    def validate(self, module: nn.Module) -> dict[str, float]:
        return {}

    def save(self, module: nn.Module, folder: Path) -> None:
        pass

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        x = torch.randn(len(rows), *self.shape, generator=draw).to(self.device)
        times = 1000 * torch.rand(len(rows), generator=draw).to(self.device)
        text = self.text.expand(len(rows), -1, -1).to(self.device)
        found = self.module(x, times, text, return_dict=False)[0]
        return {"loss": (found - x).square().mean()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--images", default="8,32")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    method = Drawn(args.model, args.rank, args.patients, args.device)
    weights = {n: p for n, p in method.module.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(weights.values(), lr=1e-4, foreach=True)
    rows: list[list[Any]] = [
        ["images a patient", "plain s", "private s", "ratio", "of the fastest"]
    ]
    figures = []
    for images in map(int, args.images.split(",")):
        private = private_step(method, weights, optimiser, args.patients, images)
        plain = plain_step(method, weights, optimiser, args.patients, images)
        seconds = timed([plain, private], args.repeats, args.device)
        medians = [statistics.median(each) for each in seconds]
        ratio, fastest = medians[1] / medians[0], min(seconds[1]) / min(seconds[0])
        rows.append([images, *medians, ratio, fastest])
        figures.append({"images": images, "seconds": seconds, "ratio": ratio, "fastest": fastest})
    table(rows)
    trained = sum(p.numel() for p in weights.values())
    record(args.out, "privacy", figures, vars(args) | {"out": str(args.out), "trained": trained})


def private_step(
    method: Method,
    weights: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    patients: int,
    images: int,
) -> Callable[[], None]:
    """A step in which every patient is drawn."""
    settings = PrivacySettings(
        epsilon=1, patients_per_step=patients, steps=1, images_per_patient=1, noise_draws=images
    )
    each = [[number] for number in range(patients)]
    mechanism, secret = Mechanism(1.0, 1.0, 1), {"secret": "00"}
    gradient = PrivateGradient(method, each, mechanism, settings, secret)

    def step() -> None:
        gradient(weights, 0, None)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def plain_step(
    method: Method,
    weights: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    patients: int,
    images: int,
) -> Callable[[], None]:
    """As many passes, of as many latents."""

    def step() -> None:
        draw = torch.Generator().manual_seed(0)
        for number in range(patients):
            loss = method.loss(torch.full((images,), number), draw)["loss"]
            (loss / patients).backward()
        nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def timed(steps: list[Callable[[], None]], repeats: int, device: str) -> list[list[float]]:
    """Seconds of each step, taking turns, after one of each that is not counted.

    On a CPU of its processor time: other work beside it does not count.
    """
    on_cpu = torch.device(device).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(repeats + 1):
        for number, step in enumerate(steps):
            began = clock()
            step()
            if not on_cpu:
                torch.cuda.synchronize()
            if turn:
                seconds[number].append(clock() - began)
    return seconds


if __name__ == "__main__":
    run(main)
