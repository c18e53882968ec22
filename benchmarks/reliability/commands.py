"""All commands on material so small that each takes a second: for kills and full disks.

Networks that measure are grids of mean colours, so that nothing has to be installed.
"""

import importlib
import json
import multiprocessing
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import nn

from benchmarks.train.material import TINY, write_bert, write_generator
from vesalius.core.tensors import save_tensors
from vesalius.core.trained_on import TrainedOn
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.synthesize.plan import PlanRow, write_plan

_STORES = ("folder", "webdataset", "parquet")
_TRAININGS = ("lora", "textual-inversion", "full", "scratch")
_LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@dataclass(frozen=True)
class Command:
    """A command by its arguments for an output folder; `again` of how it goes on."""

    name: str
    arguments: Callable[[Path], list[list[str]]]  # of one process, or of several at once
    resumes: str = ""  # what goes on where it was begun: an option
    real: bool = True  # needs no network of this file, so that it runs as a process of its own


def make_commands(work: Path) -> list[Command]:
    """Write what the commands need into `work`; all of them, in the order of a user's way."""
    _write_images(work)
    _write_models(work)
    table, model, plan = (str(work / name) for name in ("table.parquet", "model", "plan.csv"))
    cpu = ["--device", "cpu"]

    def pairs(out: Path) -> list[list[str]]:
        command = ["pairs", str(work / "images"), "--out", str(out / "pairs.parquet")]
        return [[*command, "--split", "val=0.2", "--text-encoder", "none"]]

    def train(method: str) -> Callable[[Path], list[list[str]]]:
        recipe = str(work / f"{method}.yaml")
        return lambda out: [["train", recipe, "--pairs", table, "--out", str(out / "run"), *cpu]]

    def planned(out: Path) -> list[list[str]]:
        return [["plan", "--pairs", table, "--per-class", "30", "--out", str(out / "plan.parquet")]]

    def synthesize(store: str, workers: int = 1) -> Callable[[Path], list[list[str]]]:
        def arguments(out: Path) -> list[list[str]]:
            command = ["synthesize", plan, "--model", model, "--out", str(out / "set")]
            command += ["--chunk", "4", "--store", store, *cpu]
            shards = [f"{number}/{workers}" for number in range(workers)]
            return [[*command, "--shard", shard] for shard in shards] if workers > 1 else [command]

        return arguments

    def draw(*words: str) -> Callable[[Path], list[list[str]]]:
        return lambda out: [
            [*words, "--model", model, "--steps", "2", "--out", str(out / "o"), *cpu]
        ]

    def judge(*words: str) -> Callable[[Path], list[list[str]]]:
        return lambda out: [[*words, "--out", str(out / "o"), *cpu]]

    sets = ["--real", table, "--synthetic", str(work / "set")]
    quick = ["--seeds", "2", "--arms", "oversampled,mixed", "--samples", "1", "--allow-unproven"]
    whole = ["augment", table, "--model", model, "--method", "lora", "--images-seen", "16"]
    whole += ["--per-class", "4", "--steps", "2", "--backbone", "tiny", "--extractors", "timm:tiny"]
    whole += ["--classifier-steps", "10", *quick, "optimisation.precision=float32", "size=32"]
    utility = ["utility", *sets, "--backbone", "tiny", *quick]
    evidence = ["evaluate", *sets, "--extractors", "inception", "--only", "fidelity"]
    image = str(work / "images" / "a" / "000.png")
    inpaint = ("inpaint", image, "--prompt", "a smear", "--mask", str(work / "mask.png"))
    adapter = str(work / "lora.safetensors")

    def convert(out: Path) -> list[list[str]]:
        return [["adapter", adapter, "--to", "kohya", "--out", str(out / "kohya.safetensors")]]

    def get(out: Path) -> list[list[str]]:
        return [["info", "--get", f"swav={work / 'swav.pth'}"]]

    commands = [
        Command("pairs", pairs),
        *(Command(f"train {method}", train(method), "--resume") for method in _TRAININGS),
        Command("plan", planned),
        *(Command(f"synthesize {store}", synthesize(store)) for store in _STORES),
        Command("synthesize two workers", synthesize("folder", 2)),
        Command("evaluate", judge(*evidence), real=False),
        Command("utility", judge(*utility), real=False),
        Command("augment", judge(*whole), real=False),
        Command("adapter", convert),
        Command("generate", draw("generate", "a smear, cells", "-n", "6")),
        Command("inpaint", draw(*inpaint)),
        Command("interpolate", draw("interpolate", "a smear", "a scar", "--frames", "6")),
        Command("info --get", get),
    ]
    made = multiprocessing.get_context("fork").Process(
        target=run_here, args=(synthesize("folder")(work)[0], work)
    )
    made.start()
    made.join()
    return commands


def warm() -> None:
    """Import all that commands import, for the forks of this process."""
    import peft  # noqa: F401

    import vesalius

    for module in pkgutil.walk_packages(vesalius.__path__, "vesalius."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def small_networks() -> None:
    """Put grids of mean colours in the place of all networks that measure, in this process."""
    from vesalius.evaluate import inputs
    from vesalius.models.networks.extractors import Extractor
    from vesalius.models.networks.resize import View
    from vesalius.utility import backbones

    def network() -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(4), nn.Flatten())

    def find(name: str) -> Extractor:
        view = View("squash", 8, filter="bilinear")
        return Extractor(name, view, (127.5,) * 3, (64.0,) * 3, 12, "0", network)

    for module in (inputs, backbones):
        setattr(module, "find_extractor", find)  # noqa: B010, as a module has no such type


def run_here(arguments: list[str], out: Path) -> int:
    """The command line in this process, as `python -m vesalius` runs it; its exit code."""
    from vesalius.cli import main

    os.environ |= {"HOME": str(out / "home"), "VESALIUS_WEIGHTS": str(out / "weights")}
    sys.argv = ["vesalius", *arguments]
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def _write_images(work: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        path = work / "images" / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tint = np.eye(3)[number % 2] * 60 + rng.normal(0, 20, 3)
        pixels = np.clip(rng.normal(110, 50, (40, 40, 3)) + tint, 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), 10)).save(work / "mask.png")
    settings = PairsSettings(split="val=0.2,test=0.2")
    build_pairs([str(work / "images")], work / "table.parquet", settings, samples=0)


def _write_models(work: Path) -> None:
    torch.manual_seed(0)
    write_generator(work / "model", TINY)
    (work / "model" / "vesalius.json").write_text(
        json.dumps({"steps": 2, "guidance": 2, "size": 32})
    )
    TrainedOn("model", ("0" * 40,), ("somebody",), ("elsewhere",)).write(work / "model")
    write_bert(work / "text", TINY)
    rows = [PlanRow(k, f"a smear, view {k}", "ab"[k % 2], k, steps=2) for k in range(24)]
    write_plan(rows, work / "plan.csv")
    layer = {"A": torch.randn(4, 8), "B": torch.randn(8, 4)}
    tensors = {f"{_LAYER}.lora_{name}.weight": value for name, value in layer.items()}
    save_tensors(work / "lora.safetensors", tensors, {})
    torch.save({"module.w": torch.ones(8)}, work / "swav.pth")
    optimisation = {"seen_images": 96, "batch": 8, "lr": 1e-3, "schedule": "constant"}
    optimisation |= {"precision": "float32", "validation_size": 4}
    optimisation |= {"validate_images": 48, "checkpoint_images": 24}
    base = {"model": str(work / "model"), "size": 32, "optimisation": optimisation}
    inversion = {"per": "set", "embedding": {"vectors": 2}}
    for method, more in (("lora", {}), ("textual-inversion", inversion), ("full", {})):
        recipe = {"method": method, "name": method, **base, **more}
        (work / f"{method}.yaml").write_text(yaml.safe_dump(recipe))
    scratch: dict[str, Any] = {"name": "scratch", "size": 32}
    scratch["text_encoder"] = {"source": str(work / "text"), "tokens": 12}
    ends = ("encoder", "decoder")
    arguments: dict[str, Any] = {f"{end}_block_out_channels": [8] * 4 for end in ends}
    arguments |= {f"num_{end}_blocks": [1] * 4 for end in ends}
    scratch["autoencoder"] = {"arguments": arguments, "crop": 32, "lpips_weight": 0}
    unet = {"sample_size": 4, "block_out_channels": [8, 16], "layers_per_block": 1}
    unet |= {"norm_num_groups": 4, "attention_head_dim": 4, "cross_attention_dim": 16}
    unet |= {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}
    unet |= {"up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}
    scratch["denoiser"] = {"arguments": unet | {"in_channels": 4, "out_channels": 4}}
    for stage in ("autoencoder", "denoiser"):
        scratch[stage]["optimisation"] = optimisation
    flow = {"class": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"}
    flow |= {"use_flow_sigmas": True, "steps_offset": 1}
    scratch["sampler"] = {"steps": 2, "guidance": 2.0, "scheduler": flow}
    (work / "scratch.yaml").write_text(yaml.safe_dump(scratch))
