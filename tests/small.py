"""Small things that tests of several rooms share: sizes, pictures, networks, files."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from torch import nn

# of a transformer that is built and run in milliseconds
TRANSFORMER = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def in_two_processes(*arguments: object, timeout: int = 300) -> "subprocess.CompletedProcess[str]":
    """A program and its arguments, or `-m MODULE` and those, run by torchrun with a thread each."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def fields(count: int, seed: int = 0, side: int = 96) -> np.ndarray:
    """(count, side, side, 3) uint8 pictures with the spectrum of photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(rng.standard_normal((count, 3, side, side)))
    field = np.fft.irfft2(noise * frequency**-1.5, (side, side))
    field = 128 + 40 * field / field.std(axis=(2, 3), keepdims=True)
    return np.clip(np.rint(field), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


class Pool(nn.Module):
    """A network without weights."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 4).flatten(1)


def stock(folder: Path):
    """The generator `folder` as stock diffusers loads it."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_image(pipeline, prompt: str = "chest x-ray, nodule") -> np.ndarray:
    """(32, 32, 3) uint8 of seed 3, in three steps at guidance 2."""
    import torch

    drawn = pipeline(prompt, num_inference_steps=3, guidance_scale=2.0, height=32, width=32,
                     generator=[torch.Generator().manual_seed(3)])  # fmt: skip
    return np.asarray(drawn.images[0])


def write_taesd(model, folder: Path) -> str:
    """The layers of a TAESD as its authors publish them; their decoder counts the clamp as layer 0."""
    from safetensors.torch import save_file

    for part, shift in (("encoder", 0), ("decoder", 1)):
        weights = {}
        for name, value in getattr(model, part).layers.state_dict().items():
            index, rest = name.split(".", 1)
            weights[f"{int(index) + shift}.{rest}"] = value.clone()
        save_file(weights, folder / f"taesd_{part}.safetensors")
    return f"{folder}/taesd"


def private_card(folder: Path, **changes: object) -> object:
    """A privacy card as a training writes it, in `folder`."""
    from vesalius.core.privacy_card import PrivacyCard

    values = {"epsilon": 7.9, "delta": 1e-4, "patients": 1000, "mechanism": "toy", "sigma": 2.0,
              "rate": 0.1, "steps": 9, "runs": 1, "clip_norm": 1e-3, "patients_per_step": 100,
              "images_per_patient": 4, "noise_draws": 8, "dimensions": 768, "accountant": "none",
              "epsilon_pld": 7.9, "epsilon_rdp": 8.4, "weights": "the last"}  # fmt: skip
    card = PrivacyCard(**(values | changes))  # type: ignore[arg-type]
    card.write(folder)
    return card


# Labels, captions, names and patients as somebody who means harm, or a slip, may write them.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}} {% raw %}",
    "</title></style></svg><marquee>x",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "a\u202etxt.exe\u0007\u001b[2J",
)


class Page(HTMLParser):
    """What a browser makes of a page: its tags, attributes and text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def check_page(html: str, *shown: str) -> None:
    """Nothing in the page runs, leaves it or hides, and it shows these texts as they are."""
    page = Page(html)
    assert page.tags.isdisjoint(
        {"script", "iframe", "object", "embed", "form", "base", "link", "marquee"}
    ), page.tags
    for name, value in page.attributes:
        assert not name.startswith("on"), (name, value)
        if name in ("src", "href", "srcset", "action", "xlink:href", "data", "formaction"):
            assert re.match(r"(data:image/(png|jpeg|svg\+xml)|#|[\w./-]+$)", value), (name, value)
            assert not value.lower().startswith("javascript")
        if name == "style":
            assert "url(" not in value and "expression" not in value
    assert page.attributes.count(("http-equiv", "refresh")) == 0
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    for text in shown:
        assert " ".join(text.split()) in " ".join(page.text.split()), text
