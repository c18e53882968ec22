"""Small inputs of every kind of file, and the door of the product that each goes through.

A door takes a path and reads all that a command would read of it.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.train.material import LETTERS, TINY, write_generator
from vesalius.core.manifest import read_manifest, write_manifest
from vesalius.core.tensor_store import keys_of, open_store
from vesalius.core.tensors import save_tensors
from vesalius.core.trained_on import TrainedOn, read_rows
from vesalius.images.encode import encode_image
from vesalius.images.pixels import open_rgb
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.pairs.captions import load_dictionary
from vesalius.pairs.open_images import open_images
from vesalius.pairs.table import read_pairs
from vesalius.synthesize.plan import PlanRow, read_plan, write_plan
from vesalius.train.checkpoint import (
    check_checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)

PROVENANCE = {"synthetic": True, "prompt": "a smear", "label": "a", "seed": 1}


@dataclass(frozen=True)
class Case:
    """One file that is mutated."""

    kind: str
    file: Path  # inside of `root`
    root: Path  # what is copied, and what the door takes: the file itself or a folder
    door: Callable[[Path], Any]


def make_cases(work: Path) -> list[Case]:
    """Write all inputs into `work`."""
    made = [*_adapters(work), *_texts(work), *_tables(work), *_model(work)]
    return [*made, *_records(work), *_images(work)]


def read_adapter_file(path: Path) -> Any:
    """The door of adapters."""
    from vesalius.models.adapter_files import read_adapter

    return read_adapter(path)


def _adapters(work: Path) -> Iterable[Case]:
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.randn(4, 16), torch.randn(16, 4)
    lora = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    config = {"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": {"to_q": 2.0}}
    settings = {"lora_adapter_metadata": json.dumps(config), "format": "pt"}
    name = layer.removeprefix("unet.").replace(".", "_")
    kohya = {f"lora_unet_{name}.lora_down.weight": down, f"lora_unet_{name}.lora_up.weight": up}
    kohya |= {f"lora_unet_{name}.alpha": torch.tensor(4.0)}
    files = {"lora": (lora, settings), "kohya": (kohya, {}), "embedding": ({"<x>": down}, {})}
    for kind, (tensors, notes) in files.items():
        path = work / f"{kind}.safetensors"
        save_tensors(path, tensors, notes)
        yield Case(f"adapter {kind}", path, path, read_adapter_file)
    folder = work / "peft"
    peft = {f"base_model.model.{key}": value for key, value in lora.items()}
    save_tensors(folder / "adapter_model.safetensors", peft, {"format": "pt"})
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "alpha_pattern": {"to_q": 2}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    yield Case("adapter settings", folder / "adapter_config.json", folder, read_adapter_file)


def _recipe(path: Path) -> Any:
    from vesalius.config import load_recipe

    return load_recipe(str(path))


def _override(path: Path) -> Any:
    from vesalius.config import load_recipe

    return load_recipe("mini-cpu", [path.read_bytes().decode("utf-8", "surrogateescape")])


def _texts(work: Path) -> Iterable[Case]:
    from importlib.resources import files

    bundled = Path(str(files("vesalius")))
    for kind, source, door in (
        ("recipe", bundled / "recipes" / "mini-cpu.yaml", _recipe),
        ("recipe of a LoRA", bundled / "recipes" / "cytodiff.yaml", _recipe),
        (
            "dictionary",
            bundled / "pairs" / "dictionaries" / "mini.yaml",
            lambda p: load_dictionary(str(p)),
        ),
    ):
        if source.is_file():
            path = work / f"{kind}.yaml"
            path.write_bytes(source.read_bytes())
            yield Case(kind, path, path, door)
    for number, text in enumerate(
        ("size=[96]", "denoiser.optimisation.lr=1e-4", "prompts=[a, 'b']")
    ):
        path = work / f"override-{number}"
        path.write_text(text)
        yield Case("override", path, path, _override)


def _pairs(path: Path) -> Any:
    pairs = read_pairs(path)
    for name in pairs.table.column_names:
        pairs.column(name)
    return [pairs.image(k, 16) for k in range(len(pairs))]


def read_source(path: Path) -> Any:
    """The door of sources."""
    return build_pairs(
        [str(path)], path.with_name("made.parquet"), PairsSettings(split="val=0.5"), samples=0
    )


def _tables(work: Path) -> Iterable[Case]:
    rows = [
        PlanRow(k, f"a smear, view {k}", "a", k, guidance=2.0, attributes={"eye": "left"})
        for k in range(6)
    ]
    for kind in ("csv", "parquet"):
        path = work / f"plan.{kind}"
        write_plan(rows, path)
        yield Case(f"plan {kind}", path, path, read_plan)
    folder = work / "classes"
    for number in range(6):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_png(number))
    build_pairs([str(folder)], work / "pairs.parquet", PairsSettings(split="val=0.5"), samples=0)
    yield Case("pairs table", work / "pairs.parquet", work / "pairs.parquet", _pairs)
    yield Case("source parquet", work / "pairs.parquet", work / "pairs.parquet", read_source)
    table = work / "listed"
    (table / "images").mkdir(parents=True)
    for number in range(4):
        (table / "images" / f"{number}.png").write_bytes(make_png(number))
    lines = [f"images/{k}.png,a smear,{'ab'[k % 2]},p{k}" for k in range(4)]
    (table / "metadata.csv").write_text("\n".join(["file_name,text,label,patient", *lines]) + "\n")
    yield Case("source metadata", table / "metadata.csv", table, read_source)
    with zipfile.ZipFile(work / "images.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    yield Case("source zip", work / "images.zip", work / "images.zip", read_source)
    with tarfile.open(work / "shard.tar", "w") as tar:
        for number in range(3):
            texts = {"png": make_png(number), "txt": b"a smear", "json": b'{"label": "a"}'}
            for suffix, data in texts.items():
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    yield Case("source tar", work / "shard.tar", work / "shard.tar", read_source)


def _load_model(path: Path) -> Any:
    from vesalius.models.generator import load_generator
    from vesalius.models.locate import locate

    return load_generator(locate(path), "cpu", "float32")


def _model(work: Path) -> Iterable[Case]:
    folder = work / "model"
    write_generator(folder, TINY)
    (folder / "vesalius.json").write_text(json.dumps({"steps": 2, "guidance": 2.0, "size": 32}))
    names = ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json")
    names += ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "vesalius.json")
    names += ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
    for name in names:
        if (folder / name).is_file():
            yield Case("model folder", folder / name, folder, _load_model)


def _checkpoint(path: Path) -> Any:
    newest = newest_checkpoint(path)
    if newest:
        weight = torch.nn.Parameter(torch.zeros(4))
        check_checkpoint(newest, {"w": weight}, {"method": "x"})
        load_checkpoint(newest, {"w": weight}, {}, torch.optim.AdamW([weight]))


def _store(path: Path) -> Any:
    return open_store(path, {"model": "m"}, keys_of(LETTERS[:4]))


def _first_image(path: Path) -> Any:
    images = open_images(path)
    return images.encoded(0) if len(images) else None


def _records(work: Path) -> Iterable[Case]:
    rows = TrainedOn("x", ("0" * 40, "1" * 40), ("p1", None), ("s", "s"))
    (work / "rows").mkdir()
    rows.write(work / "rows")
    path = next((work / "rows").iterdir())
    yield Case("training rows", path, path, read_rows)
    folder = work / "set"
    (folder / "images").mkdir(parents=True)
    for number in range(3):
        (folder / "images" / f"{number}.png").write_bytes(make_png(number))
    path = folder / "manifest.jsonl"
    write_manifest(path, [{"row": k, "file": f"images/{k}.png", "label": "a"} for k in range(3)])
    yield Case("manifest", path, path, read_manifest)
    yield Case("synthetic set", path, folder, _first_image)
    tensors = {"model.w": torch.zeros(4)}
    saved = save_checkpoint(work / "checkpoints", tensors, {"seen_images": 8}, {"method": "x"})
    for path in sorted(saved.iterdir()):
        yield Case("checkpoint", path, saved.parent, _checkpoint)
    store = open_store(work / "store", {"model": "m"}, keys_of(LETTERS[:4]))
    store.fill(lambda k: {"mean": torch.zeros(len(k), 3)}, 4)
    for path in sorted((work / "store").glob("*.safetensors")):
        yield Case("tensor store", path, path.parent, _store)


def _image(path: Path) -> Any:
    return open_rgb(path.read_bytes())


def _images(work: Path) -> Iterable[Case]:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    for kind in ("png", "jpeg", "dicom"):
        path = work / f"image.{'dcm' if kind == 'dicom' else kind}"
        path.write_bytes(encode_image(pixels, PROVENANCE, kind))
        yield Case(f"image {kind}", path, path, _image if kind != "dicom" else read_source)
    for kind in ("tiff", "bmp", "webp", "gif"):
        path = work / f"image.{kind}"
        Image.fromarray(pixels).save(path)
        yield Case(f"image {kind}", path, path, _image)


def make_png(number: int) -> bytes:
    """Noise of 24 pixels a side."""
    pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
