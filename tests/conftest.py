"""Tiny random models in the layout of Stable Diffusion, written by stock diffusers."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from tests.small import TRANSFORMER, Pool

# A run of CI tells of its change alone; new counterexamples are for whoever runs the suite by hand.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--until", type=float, help="skip tests that begin after this time, in seconds since 1970"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("--until")
    if until and time.time() > until:
        pytest.skip("no time left (--until)")


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window, for the tests of pages."""
    from tests.browser import open_chromium

    with open_chromium() as browser:
        yield browser


@pytest.fixture
def window(chromium):
    """`window()` opens a browser of its own, in which a request that leaves this machine fails the test."""
    from tests.browser import windows

    with windows(chromium) as opens:
        yield opens


WORDS = [
    "a",
    "an",
    "chest",
    "lung",
    "nodule",
    "with",
    "without",
    "of",
    "the",
    "right",
    "left",
    "effusion",
    "retina",
    "x",
    "-",
    "ray",
]
TOKENS = 16  # the text encoders' window

OPTIMISATION = {
    "seen_images": 32,
    "batch": 4,
    "lr": 1e-3,
    "validate_images": 16,
    "validation_size": 4,
    "checkpoint_images": 16,
    "ema_half_life_images": 8,
}


def _unet(width: int):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=width,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def _save(folder: Path, **parts: object) -> Path:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion 1.x in small: AutoencoderKL, CLIP, PNDM; 32 px, multiples of 16."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny-sd"
    vocabulary = folder.parent / "clip"
    vocabulary.mkdir()
    letters = sorted(set("".join(WORDS)) | set("abcdefghijklmnopqrstuvwxyz0123456789,."))
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: k for k, token in enumerate(tokens)}
    (vocabulary / "vocab.json").write_text(json.dumps(ids))
    (vocabulary / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(vocabulary, model_max_length=TOKENS)
    text = CLIPTextConfig(
        vocab_size=len(ids),
        **TRANSFORMER,
        max_position_embeddings=TOKENS,
        bos_token_id=ids["<|startoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    return _save(
        folder,
        vae=vae,
        unet=_unet(8),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        scheduler=scheduler,
    )


@pytest.fixture(scope="session")
def tiny_clip(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP, text and image tower, with the tokenizer and text sizes of `tiny_sd`."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPTextConfig,
        CLIPVisionConfig,
    )

    torch.manual_seed(1)
    text = CLIPTextConfig.from_pretrained(tiny_sd / "text_encoder")
    vision = CLIPVisionConfig(**TRANSFORMER, image_size=32, patch_size=8)
    folder = tmp_path_factory.mktemp("clip")
    sizes = {"text_config": text.to_dict(), "vision_config": vision.to_dict()}
    CLIPModel(CLIPConfig(**sizes, projection_dim=6)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    shutil.copytree(tiny_sd / "tokenizer", folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def pooled_inception(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vesalius evaluate` finds a network that needs no weights."""
    from vesalius.evaluate import inputs
    from vesalius.models.networks.extractors import Extractor
    from vesalius.models.networks.resize import View

    def find(name: str) -> Extractor:
        return Extractor(name, View("squash", 8), (0.0,) * 3, (255.0,) * 3, 12, "w", Pool)

    monkeypatch.setattr(inputs, "find_extractor", find)


@pytest.fixture(scope="session")
def tiny_flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model's kind in small: AutoencoderTiny, BERT, DPM-Solver++ over flow sigmas."""
    import torch
    from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny-flow"
    vocabulary = folder.parent / "vocab.txt"
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789,.-"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary.write_text("\n".join(dict.fromkeys(tokens)))
    tokenizer = BertTokenizer(str(vocabulary), model_max_length=TOKENS)
    text = BertConfig(
        vocab_size=len(tokenizer),
        **TRANSFORMER,
        max_position_embeddings=TOKENS,
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=4,
    )
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        algorithm_type="dpmsolver++",
        steps_offset=1,
    )
    _save(
        folder,
        vae=vae,
        unet=_unet(8),
        text_encoder=BertModel(text),
        tokenizer=tokenizer,
        scheduler=scheduler,
    )
    settings = {"steps": 4, "guidance": 2.0, "licence": "CC0-1.0"}
    (folder / "vesalius.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def tiny_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small sets as Parquet files, and a dictionary for them."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)

    def png(level: int) -> dict[str, object]:
        # a brightness that the label decides, with some texture: something can be learnt
        pixels = rng.integers(level, level + 40, (40, 48, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    for name, rows in {"lungs": 30, "retinas": 20}.items():
        labels = ["nodule", "effusion"]
        table = pa.table(
            {
                "image": [png(40 if k % 2 else 180) for k in range(rows)],
                "label": [labels[k % 2] for k in range(rows)],
                "patient": [f"p{k // 3}" for k in range(rows)],
                "eye": ["left" if k % 4 else None for k in range(rows)],
            }
        )
        pq.write_table(table, folder / f"{name}.parquet")
    (folder / "dictionary.yaml").write_text(
        "lungs: {group: patient, symmetry: square, templates: ['chest x-ray, {label}']}\n"
        "retinas: {group: patient, templates: ['retina of the [{eye} ]{label}']}\n"
    )
    return folder


@pytest.fixture(scope="session")
def tiny_pairs(tiny_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs table of `tiny_sets`."""
    from vesalius.pairs.build import PairsSettings, build_pairs

    out = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    options = PairsSettings(captions=str(tiny_sets / "dictionary.yaml"), split="val=0.2")
    build_pairs([str(tiny_sets)], out, options, samples=0)
    return out


@pytest.fixture(scope="session")
def tiny_recipe(tiny_flow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains a generator of `tiny_flow`'s size from scratch in a second."""
    import yaml
    from transformers import BertModel, BertTokenizer

    text = tmp_path_factory.mktemp("text") / "encoder"
    BertModel.from_pretrained(tiny_flow / "text_encoder").save_pretrained(text)
    BertTokenizer.from_pretrained(tiny_flow / "tokenizer").save_pretrained(text)
    values = {
        "name": "tiny",
        "size": 32,
        "text_encoder": {"source": str(text), "tokens": 12},
        "autoencoder": {
            "arguments": {
                "encoder_block_out_channels": [8, 8, 8, 8],
                "decoder_block_out_channels": [8, 8, 8, 8],
                "num_encoder_blocks": [1, 1, 1, 1],
                "num_decoder_blocks": [1, 1, 1, 1],
            },
            "crop": 32,
            "lpips_weight": 0,
            "optimisation": OPTIMISATION,
        },
        "denoiser": {
            "arguments": {
                "sample_size": 4,
                "in_channels": 4,
                "out_channels": 4,
                "block_out_channels": [8, 16],
                "layers_per_block": 1,
                "norm_num_groups": 4,
                "attention_head_dim": 4,
                "cross_attention_dim": 8,
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
            },
            "views": 2,
            "optimisation": OPTIMISATION,
        },
        "sampler": {
            "steps": 3,
            "guidance": 2.0,
            "scheduler": {
                "class": "DPMSolverMultistepScheduler",
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": True,
                "steps_offset": 1,
            },
        },
    }
    path = text.parent / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def run_cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the command `vesalius` in this process: exit code, standard output, standard error."""
    from vesalius import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["vesalius", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run
