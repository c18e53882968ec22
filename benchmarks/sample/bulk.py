"""Images per second to the disk: `synthesize` beside the stock diffusers pipeline, in one run.

    python -m benchmarks.sample.bulk --out OUT [--model mini | --sd15 | --small | --tiny] \
        [--images 64] [--batches 1 16] [--steps 50] [--samplers own dpm++2m:20] [--device auto] \
        [--dtype auto] [--compile] [--repeat 1] [--defaults]

--sd15 makes a model of Stable Diffusion 1.5's shapes (512 px, PNDM) with random weights, --small one
of the same form for a CPU (128 px), and --tiny one of a few thousand parameters, to test this
script. Both sides have the same weights, prompts, steps and number format; at --steps both have the
model's own scheduler. The peer is `StableDiffusionPipeline` without a safety checker and without its
progress bar, its images saved as PNG by Pillow one batch after the other, as its users do. A side's
time is from its first batch to its last image on the disk, without loading, and without --compile's
compilation, which a run of one batch before it has done; both sides have such a run. Ours writes its
manifest, hashes and contact sheet in that time too. --samplers are timed on our side alone, as NAME
or NAME:STEPS. Each side is a process of its own; its memory is its largest resident set until then.
With --repeat the sides take turns, and the fastest run of each row counts.

--defaults adds a row in which both sides choose steps and guidance (the peer 50 and 7.5), and we the
batch, which the peer gets too.

Prints, and writes to bulk.json, images per second, and each row's ratio to the peer at the same
batch, which for other samplers and at defaults is a comparison of unequal work: see steps.py for
what fewer steps cost.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import vesalius
from benchmarks.made import stable_diffusion_scheduler
from benchmarks.recording import in_a_process, peak_resident, record, run, table
from benchmarks.sample.equality import PROMPTS
from benchmarks.train.material import SMALL, write_generator
from vesalius.core.quiet import quiet
from vesalius.models.generator import Generator
from vesalius.models.locate import locate
from vesalius.synthesize.engine import synthesize
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.settings import SynthesizeSettings
from vesalius.synthesize.worker import usual_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sd15", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--samplers", nargs="*", default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--like", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        with tempfile.TemporaryDirectory() as folder:
            side = Ours(args, Path(folder)) if args.side == "ours" else Peer(args, Path(folder))
            rows = [row_of(side, case, args) for case in side.cases]
        print(json.dumps({"rows": rows, "like": asdict(side.like)}))
        return

    with tempfile.TemporaryDirectory() as folder:
        model = args.model
        if args.small:
            model = str(Path(folder) / "model")
            write_generator(Path(model), SMALL)
        elif args.sd15 or args.tiny:
            model = str(random_model(Path(folder) / "model", tiny=args.tiny))
        known = [*sys.argv[1:], "--model", model]
        turns, ours = [], {}
        for _ in range(args.repeat):
            ours = in_a_process("benchmarks.sample.bulk", *known, "--side", "ours")
            like = ["--like", json.dumps(ours["like"])]
            peer = in_a_process("benchmarks.sample.bulk", *known, "--side", "peer", *like)
            turns.append((ours["rows"], peer["rows"]))
    mine, theirs = (
        [max(rows, key=lambda row: row["img/s"]) for rows in zip(*side, strict=True)]
        for side in zip(*turns, strict=True)
    )
    figures, several = [], len(args.samplers) + 1
    for k, row in enumerate(theirs):
        for each in (row, *mine[k * several : (k + 1) * several]):
            figures.append(each | {"times the peer": each["img/s"] / row["img/s"]})
    table([list(figures[0]), *(list(row.values()) for row in figures)])
    settings = {**vars(args), "out": None, "dtype": ours["like"]["dtype"]}
    record(args.out, "bulk", figures, settings)


@dataclass(frozen=True)
class Like:
    """What the peer is told, so that it does the same."""

    size: tuple[int, int]
    guidance: float
    steps: int  # where nobody says
    batch: int  # where nobody says
    dtype: str
    device: str


@dataclass(frozen=True)
class Case:
    """A row of the table; `steps` None are the side's own."""

    batch: int
    steps: int | None
    sampler: str = ""


def cases_of(args: argparse.Namespace, like: Like, samplers: Sequence[str]) -> list[Case]:
    """The rows in order: for each batch one of each sampler."""
    steps = args.steps or (50 if args.sd15 else like.steps)
    cases = []
    for batch in args.batches or sorted({1, like.batch}):
        for text in samplers:
            sampler, _, own_steps = ("" if text == "own" else text).partition(":")
            cases.append(Case(batch, int(own_steps or steps), sampler))
    return cases + [Case(like.batch, None)] * (len(samplers) if args.defaults else 0)


def row_of(side: "Ours | Peer", case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Images a second, after a run that compiles and allocates."""
    side.run(case, case.batch)
    rate = args.images / side.run(case, args.images)
    steps = case.steps or side.own_steps
    peak = round(peak_resident() / 2**20)
    what = side.name + f" {case.sampler or 'own sampler'}"
    return {"what": what, "batch": case.batch, "steps": steps, "img/s": rate, "peak MiB": peak}


class Ours:
    """`synthesize`, with its model in memory."""

    name = "vesalius"

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.compiled, self.folder = args.compile, folder
        self.model = vesalius.load(args.model, args.device, args.dtype)
        asked, generator = self.model.request("a", 0), self.model.generator
        dtype, device = str(generator.dtype).removeprefix("torch."), str(generator.device)
        batch, self.own_steps = usual_batch(self.model), asked.steps
        self.like = Like(asked.size, asked.guidance.scale, asked.steps, batch, dtype, device)
        self.cases = cases_of(args, self.like, ("", *args.samplers))

    def run(self, case: Case, images: int) -> float:
        """Seconds of so many images."""
        settings = SynthesizeSettings(
            steps=case.steps,
            sampler=case.sampler or None,
            batch_size=case.batch,
            compiled=self.compiled,
        )
        rows = [PlanRow(k, PROMPTS[k % len(PROMPTS)], "", k) for k in range(images)]
        start = time.perf_counter()
        synthesize(rows, Path(tempfile.mkdtemp(dir=self.folder)), settings, model=self.model)
        return time.perf_counter() - start


class Peer:
    """The stock pipeline over a model folder, in one number format, as its users load it."""

    own_steps = 50

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        from diffusers import StableDiffusionPipeline

        self.folder, self.like = folder, Like(**args.like)
        with quiet():
            self.pipeline: Any = StableDiffusionPipeline.from_pretrained(
                locate(args.model),
                torch_dtype=getattr(torch, self.like.dtype),
                local_files_only=True,
            ).to(self.like.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.name = f"diffusers {type(self.pipeline.scheduler).__name__}"
        self.cases = cases_of(args, self.like, ("",))

    def run(self, case: Case, images: int) -> float:
        """Seconds of so many images."""
        (width, height), chosen = self.like.size, {}
        if case.steps:
            chosen = {"num_inference_steps": case.steps, "guidance_scale": self.like.guidance}
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        start = time.perf_counter()
        for first in range(0, images, case.batch):
            seeds = range(first, min(first + case.batch, images))
            made = self.pipeline(
                [PROMPTS[k % len(PROMPTS)] for k in seeds],
                width=width,
                height=height,
                generator=[torch.Generator("cpu").manual_seed(k) for k in seeds],
                **chosen,
            ).images
            for k, image in zip(seeds, made, strict=True):
                image.save(folder / f"{k:05d}.png")
        return time.perf_counter() - start


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
