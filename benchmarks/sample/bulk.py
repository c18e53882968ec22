"""Images per second to the disk: `synthesize` beside the stock diffusers pipeline, in one run.

    python -m benchmarks.sample.bulk --out OUT [--model mini | --sd15 | --tiny] [--images 64] \
        [--batches 1 16] [--steps 50] [--samplers own dpm++2m:20] [--device auto] [--dtype auto] \
        [--compile] [--repeat 1]

--sd15 makes a model of Stable Diffusion 1.5's shapes (512 px, PNDM) with random weights, and --tiny
one of a few thousand parameters, for a check on a CPU. Both sides have the same weights, prompts,
steps and number format; at --steps both have the model's own scheduler. The peer is
`StableDiffusionPipeline` without a safety checker and without its progress bar, its images saved as
PNG by Pillow one batch after the other, as its users do. A side's time is from its first batch to
its last image on the disk, without loading, and without --compile's compilation, which a run of one
batch before it has done; both sides have such a run. Ours writes its manifest, hashes and contact
sheet in that time too. --samplers are timed on our side alone, as NAME or NAME:STEPS.

Prints, and writes to bulk.json, images per second, and each row's ratio to the peer at the same
batch, which for other samplers is a comparison of unequal work: see steps.py for what it costs.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import vesalius
from benchmarks.made import stable_diffusion_scheduler
from benchmarks.recording import record, run, table
from benchmarks.sample.equality import PROMPTS
from vesalius.core.quiet import quiet
from vesalius.models.generator import Generator
from vesalius.sample.generate import TextToImage
from vesalius.synthesize.engine import synthesize
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.settings import SynthesizeSettings
from vesalius.synthesize.worker import usual_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sd15", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--samplers", nargs="*", default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeat", type=int, default=1)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        name = args.model
        if args.sd15 or args.tiny:
            name = str(random_model(Path(folder) / "model", tiny=args.tiny))
        ours = vesalius.load(name, args.device, args.dtype)
        steps = args.steps or (50 if args.sd15 else ours.request("a", 0).steps)
        batches = args.batches or sorted({1, usual_batch(ours)})
        pipeline = stock(name, ours.generator)
        shown: list[list[Any]] = [["what", "batch", "steps", "img/s", "times the peer"]]
        for batch in batches:
            peer = rate_of_peer(pipeline, ours, args.images, batch, steps, args.repeat)
            shown.append(
                [f"diffusers {type(pipeline.scheduler).__name__}", batch, steps, peer, 1.0]
            )
            for text in ("", *args.samplers):
                sampler, _, own_steps = ("" if text == "own" else text).partition(":")
                count = int(own_steps or steps)
                rate = rate_of_ours(ours, args, batch, sampler, count, Path(folder))
                shown.append(
                    [f"vesalius {sampler or 'own sampler'}", batch, count, rate, rate / peer]
                )
    table(shown)
    figures = [dict(zip(shown[0], row, strict=True)) for row in shown[1:]]
    settings = {**vars(args), "out": None, "dtype": str(ours.generator.dtype)}
    record(args.out, "bulk", figures, settings)


def rate_of_ours(
    model: TextToImage,
    args: argparse.Namespace,
    batch: int,
    sampler: str,
    steps: int,
    folder: Path,
) -> float:
    """Images per second, the best of several runs."""
    settings = SynthesizeSettings(
        steps=steps, sampler=sampler or None, batch_size=batch, compiled=args.compile
    )

    def run(images: int) -> float:
        rows = [PlanRow(k, PROMPTS[k % len(PROMPTS)], "", k) for k in range(images)]
        start = time.perf_counter()
        synthesize(rows, Path(tempfile.mkdtemp(dir=folder)), settings, model=model)
        return images / (time.perf_counter() - start)

    run(batch)
    return max(run(args.images) for _ in range(args.repeat))


def rate_of_peer(
    pipeline: Any, model: TextToImage, images: int, batch: int, steps: int, repeat: int
) -> float:
    """Images per second, the best of several runs."""
    guidance = model.request("a", 0).guidance.scale
    width, height = model.request("a", 0).size

    def run(images: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            for first in range(0, images, batch):
                seeds = range(first, min(first + batch, images))
                made = pipeline(
                    [PROMPTS[k % len(PROMPTS)] for k in seeds],
                    num_inference_steps=steps,
                    guidance_scale=guidance,
                    width=width,
                    height=height,
                    generator=[torch.Generator("cpu").manual_seed(k) for k in seeds],
                ).images
                for k, image in zip(seeds, made, strict=True):
                    image.save(Path(folder) / f"{k:05d}.png")
            return images / (time.perf_counter() - start)

    run(batch)
    return max(run(images) for _ in range(repeat))


def stock(model: str, generator: Generator) -> Any:
    """The stock pipeline over a model folder, in one number format, as its users load it."""
    from diffusers import StableDiffusionPipeline

    from vesalius.models.locate import locate

    with quiet():
        pipeline = StableDiffusionPipeline.from_pretrained(
            locate(model), torch_dtype=generator.dtype, local_files_only=True
        ).to(generator.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_model(folder: Path, *, tiny: bool) -> Path:
    """A Stable Diffusion 1.x with random weights, saved: 1.5's shapes, or hardly anything."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import BertTokenizer, CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    # a word a token: what it reads makes no difference to how long it takes
    words = sorted({word for prompt in PROMPTS for word in prompt.lower().split()})
    folder.mkdir()
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    channels = (4, 4, 8, 8) if tiny else (128, 256, 512, 512)
    width = 8 if tiny else 768
    coder: dict[str, Any] = {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "layers_per_block": 1 if tiny else 2,
        "norm_num_groups": 4 if tiny else 32,
        "sample_size": 32 if tiny else 512,
    }
    shapes: dict[str, Any] = {}
    if tiny:
        shapes = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    unet = UNet2DConditionModel(
        sample_size=8 if tiny else 64,
        cross_attention_dim=width,
        attention_head_dim=8,
        **shapes,
    )
    text = CLIPTextConfig(
        vocab_size=5 + len(words) if tiny else 49_408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=1 if tiny else 12,
        num_attention_heads=1 if tiny else 12,
        max_position_embeddings=77,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    scheduler = stable_diffusion_scheduler()
    generator = Generator(
        vae=AutoencoderKL(**coder),
        unet=unet,
        text_encoder=CLIPTextModel(text),
        tokenizer=BertTokenizer(str(vocabulary), model_max_length=77),
        scheduler=scheduler,
        settings={"steps": 4 if tiny else 50, "guidance": 7.5},
    )
    vocabulary.unlink()
    return generator.save(folder, half=not tiny)


if __name__ == "__main__":
    run(main)
