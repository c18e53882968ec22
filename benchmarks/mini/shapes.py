"""What shapes of the bundled model's networks cost: MACs, and seconds drawing and training.

    python -m benchmarks.mini.shapes --out OUT [--device cpu] [--threads 1] [--train] [--batches 256,512]

Without --train each denoiser and each decoder is called as sampling calls it, in float32 and in
bfloat16: milliseconds an image, the least of --repeats, of the processor where that is a CPU, so that
other work beside it counts little. With --train a step of each denoiser is timed (bfloat16, AdamW,
clipping, an averaged copy): images a second for each of --batches.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from benchmarks.recording import record, table
from vesalius.core.quiet import quiet
from vesalius.models.cost import count_macs
from vesalius.models.device import pick_device

TOKENS, WIDTH, GRID = 64, 384, 32
# name -> widths, levels with cross-attention, layers a block
DENOISERS: dict[str, tuple[list[int], list[int], int]] = {
    "96/160/320/320, attention at two levels": ([96, 160, 320, 320], [2, 3], 1),
    "64/128/256": ([64, 128, 256], [2], 1),
    "64/128/256, attention at two levels": ([64, 128, 256], [1, 2], 1),
    "64/128/256, two layers": ([64, 128, 256], [2], 2),
    "64/128/320": ([64, 128, 320], [2], 1),
    "64/128/256/384, attention at two levels": ([64, 128, 256, 384], [2, 3], 1),
}
# width, blocks from the coarse level to the fine; the first is TAESD's
DECODERS = [
    (64, (3, 3, 3, 1)),
    (64, (5, 3, 1, 0)),
    (64, (4, 4, 1, 0)),
    (64, (3, 3, 1, 0)),
    (48, (6, 8, 2, 0)),
    (40, (6, 8, 3, 0)),
    (32, (8, 8, 4, 1)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--batches", default="256,512")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = str(pick_device(args.device))
    figures = []
    for name, shape in DENOISERS.items():
        figures.append({"network": name} | denoiser(shape, device, args))
        print(figures[-1], flush=True)
    for width, blocks in [] if args.train else DECODERS:
        figures.append(
            {"network": f"decoder {width} {blocks}"} | decoder(width, blocks, device, args)
        )
        print(figures[-1], flush=True)
    print()
    columns = list(figures[0])
    table([columns, *([each.get(name) for name in columns] for each in figures)])
    record(args.out, "shapes", figures, {key: str(value) for key, value in vars(args).items()})


def denoiser(
    shape: tuple[list[int], list[int], int], device: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Parameters, MACs, and milliseconds drawing or images a second training."""
    widths, attention, layers = shape
    levels = range(len(widths))
    arguments: dict[str, Any] = {
        "sample_size": GRID,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": [
            "CrossAttnDownBlock2D" if k in attention else "DownBlock2D" for k in levels
        ],
        "up_block_types": [
            "CrossAttnUpBlock2D" if k in attention else "UpBlock2D" for k in reversed(levels)
        ],
        "cross_attention_dim": WIDTH,
        "resnet_time_scale_shift": "scale_shift" if len(widths) == 3 else "default",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 8,
    }
    with torch.device("meta"), quiet():
        outline: Any = UNet2DConditionModel(**arguments)
        text = torch.empty(1, TOKENS, WIDTH)
        macs = count_macs(outline, torch.empty(1, 4, GRID, GRID), torch.empty(()), text).products
    with quiet():
        network: Any = UNet2DConditionModel(**arguments)
    network = network.to(memory_format=torch.channels_last).to(device)
    told: dict[str, Any] = {
        "M parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "GMACs": macs / 1e9,
    }
    if args.train:
        for batch in map(int, args.batches.split(",")):
            told[f"img/s at {batch}"] = trained(network, batch, device)
        return told

    def draw() -> None:
        network(noise, torch.tensor(500.0, device=device), states)

    noise = torch.randn(8, 4, GRID, GRID, device=device).contiguous(
        memory_format=torch.channels_last
    )
    states = torch.randn(8, TOKENS, WIDTH, device=device)
    return told | drawing(draw, 8, device, args)


def decoder(
    width: int, blocks: tuple[int, ...], device: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Of the decoder of an AutoencoderTiny alone, 256 px."""
    channels = (width,) * 4
    with quiet():
        whole: Any = AutoencoderTiny(decoder_block_out_channels=channels, num_decoder_blocks=blocks)
        network = whole.decoder.eval().to(memory_format=torch.channels_last).to(device)
        latents = torch.randn(4, 4, GRID, GRID, device=device)
        macs = count_macs(network.to("meta"), torch.empty(1, 4, GRID, GRID, device="meta")).products
        network = network.to_empty(device=device)
        torch.manual_seed(0)
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.02)
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    latents = latents.contiguous(memory_format=torch.channels_last)
    told = drawing(lambda: network(latents), 4, device, args)
    return {"M parameters": parameters, "GMACs": macs / 1e9} | told


@torch.inference_mode()
def drawing(
    draw: Callable[[], Any], images: int, device: str, args: argparse.Namespace
) -> dict[str, float]:
    """Milliseconds an image in both formats."""
    kind = torch.device(device).type
    clock = time.process_time if kind == "cpu" else time.perf_counter
    told = {}
    for name in ("float32", "bfloat16"):
        taken = []
        for _ in range(args.repeats + 1):  # the first sets things up
            wait(device)
            began = clock()
            with torch.autocast(kind, torch.bfloat16, enabled=name == "bfloat16"):
                draw()
            wait(device)
            taken.append((clock() - began) / images * 1e3)
        told[f"{name} ms"] = min(taken[1:])
    return told


def trained(network: Any, batch: int, device: str, seconds: float = 3.0) -> float:
    """Images a second of training steps."""
    weights = list(network.parameters())
    average = [weight.detach().clone() for weight in weights]
    optimiser = torch.optim.AdamW(weights, lr=1e-4, fused=device != "cpu")
    torch.backends.cudnn.benchmark = True
    x = torch.randn(batch, 4, GRID, GRID, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    states = torch.randn(batch, TOKENS, WIDTH, device=device)

    def step() -> None:
        times = 1000 * torch.rand(batch, device=device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            predicted = network(x, times, states, return_dict=False)[0]
        (predicted.float() - x).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 0.01)

    for _ in range(4):
        step()
    wait(device)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
        wait(device)
    return steps * batch / (time.perf_counter() - began)


def wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
