"""What the speed of training is measured on: networks with random weights, images that are drawn.

How fast a network trains does not depend on what its weights are, so Stable Diffusion 1.5 and a
BERT are built from their published configurations, and no weight is downloaded.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

from benchmarks.made import picture, stable_diffusion_scheduler
from vesalius.core.atomic import atomic_path

PER_TASK = 64  # images that a worker draws at a time
LETTERS = ascii_lowercase + digits + ".,-"
CLIP_WORDS = 49_408


@dataclass(frozen=True)
class Shapes:
    """How large the networks and images are."""

    name: str
    images: int
    size: int  # pixels
    peer_seconds: float  # that a peer's steps are timed at least
    widths: tuple[int, ...]  # of the U-Net's levels
    unet: dict[str, Any]
    vae_widths: tuple[int, ...]
    vae: dict[str, Any]
    text: dict[str, Any]  # of CLIP and of BERT
    # of the U-ViT, whose images are smaller
    scratch_size: int
    scratch: tuple[str, ...]


# The images are enough that a peer whose epochs begin with a pause is never measured across one.
SD15 = Shapes(
    name="sd15",
    images=4096,
    size=512,
    peer_seconds=10,
    widths=(320, 640, 1280, 1280),
    unet={"sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768},
    vae_widths=(128, 256, 512, 512),
    vae={"layers_per_block": 2},
    text={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    scratch_size=256,
    scratch=(),
)
# Of the same form, for two cores: a step of each side takes about a second.
SMALL = Shapes(
    name="small",
    images=512,
    size=128,
    peer_seconds=20,
    widths=(64, 128, 256, 256),
    unet={"sample_size": 16, "attention_head_dim": 8, "cross_attention_dim": 256},
    vae_widths=(32, 64, 128, 128),
    vae={"layers_per_block": 2},
    text={
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
    },
    scratch_size=128,
    scratch=(),
)
TINY = Shapes(
    name="tiny",
    images=128,
    size=32,
    peer_seconds=2,
    widths=(8, 16),
    unet={
        "sample_size": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": 16,
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    vae_widths=(4, 4, 8, 8),
    vae={"norm_num_groups": 4},
    text={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    scratch_size=64,
    scratch=(
        "text_encoder.tokens=16",
        *(
            f"denoiser.arguments.{name}={value}"
            for name, value in {
                "sample_size": 8,
                "width": 16,
                "layers": 3,
                "heads": 2,
                "tokens": 16,
                "cross_attention_dim": 16,
            }.items()
        ),
    ),
)


def write_images(work: Path, shapes: Shapes) -> tuple[Path, Path]:
    """An image folder with captions, as `datasets` reads it, and our pairs table of it.

    `images/` in the folder holds nothing but images. What is there already is kept.
    """
    folder, pairs = work / f"{shapes.name}-images", work / f"{shapes.name}.parquet"
    if not folder.exists():
        with atomic_path(folder) as temporary, ProcessPoolExecutor(os.cpu_count()) as pool:
            (temporary / "images").mkdir(parents=True)
            starts = range(0, shapes.images, PER_TASK)
            jobs = [pool.submit(draw_some, temporary, first, shapes.size) for first in starts]
            for job in jobs:
                job.result()
            lines = (
                json.dumps({"file_name": f"images/{k:05}.jpg", "text": f"smear, view {k}"})
                for k in range(shapes.images)
            )
            (temporary / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    if not pairs.exists():
        command = [sys.executable, "-m", "vesalius", "pairs", str(folder), "--out", str(pairs)]
        command += ["--reader", "metadata", "--text-encoder", "none", "--samples", "0"]
        subprocess.run([*command, "--duplicates", "keep"], check=True, stdout=subprocess.DEVNULL)
    return folder, pairs


def draw_some(folder: Path, first: int, size: int) -> None:
    for number in range(first, first + PER_TASK):
        image = picture(number, size)
        image.save(folder / "images" / f"{number:05}.jpg", quality=90)


def write_models(work: Path, shapes: Shapes) -> tuple[Path, Path]:
    """Folders of a Stable Diffusion and of a BERT with random weights, kept where they are there."""
    generator, bert = work / f"{shapes.name}-model", work / f"{shapes.name}-bert"
    if not generator.exists():
        write_generator(generator, shapes)
    if not bert.exists():
        write_bert(bert, shapes)
    return generator, bert


def write_generator(folder: Path, shapes: Shapes) -> None:
    """Stable Diffusion 1.x in diffusers layout, float32."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from vesalius.models.generator import Generator

    torch.manual_seed(0)
    crossed = len(shapes.widths) - 1  # all levels but the lowest attend to the text
    unet = UNet2DConditionModel(
        block_out_channels=shapes.widths,
        down_block_types=("CrossAttnDownBlock2D",) * crossed + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * crossed,
        **shapes.unet,
    )
    levels = len(shapes.vae_widths)
    vae: dict[str, Any] = {
        "block_out_channels": shapes.vae_widths,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "sample_size": shapes.size,
        **shapes.vae,
    }
    start, end = CLIP_WORDS - 2, CLIP_WORDS - 1
    text = CLIPTextConfig(
        vocab_size=CLIP_WORDS, bos_token_id=start, eos_token_id=end, pad_token_id=end, **shapes.text
    )
    scheduler = stable_diffusion_scheduler()
    tokenizer = clip_tokenizer(folder.with_suffix(".vocabulary"))
    generator = Generator(AutoencoderKL(**vae), unet, CLIPTextModel(text), tokenizer, scheduler)
    generator.save(folder)


def clip_tokenizer(folder: Path) -> Any:
    """As large as CLIP's, but made up: it spells each word by its letters."""
    from transformers import CLIPTokenizer

    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokens += [f"unused{k}</w>" for k in range(CLIP_WORDS - 2 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def write_bert(folder: Path, shapes: Shapes) -> None:
    """A BERT in transformers layout, with a vocabulary of letters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    with atomic_path(folder) as temporary:
        BertModel(BertConfig(**shapes.text)).save_pretrained(temporary)
        vocabulary = temporary / "vocab.txt"
        vocabulary.write_text("\n".join(tokens))
        BertTokenizer(str(vocabulary), model_max_length=512).save_pretrained(temporary)
