"""Further inputs, and their doors: other tools' adapters, volumes, tables of text, records of stages."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from PIL import Image

from benchmarks.reliability.inputs import (
    PROVENANCE,
    Case,
    make_png,
    read_adapter_file,
    read_source,
)
from vesalius.core.manifest import write_manifest
from vesalius.core.tensor_store import keys_of_hashes, open_store
from vesalius.core.tensors import save_tensors
from vesalius.images.encode import encode_image
from vesalius.images.stored_images import loads, rows_with_images
from vesalius.models.legacy import read_legacy
from vesalius.sample.folder import digest
from vesalius.synthesize.store import save_chunk
from vesalius.synthesize.stores import Made

_LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
_HASHES = [f"{number:040x}" for number in range(4)]


def make_further_cases(work: Path, tables: Path) -> Iterable[Case]:
    """`tables` is the folder of the first inputs, with their `pairs.parquet`."""
    yield from _adapters(work)
    yield from _sources(work)
    yield from _sets(work, tables)
    yield from _runs(work)


def _adapters(work: Path) -> Iterable[Case]:
    down, up = torch.randn(4, 16), torch.randn(16, 4)
    flat = "lora_unet_" + _LAYER.removeprefix("unet.").replace(".", "_")
    of_peft = {f"base_model.model.{_LAYER}.lora_{n}.weight": v for n, v in (("A", down), ("B", up))}
    diffusers_old = {
        f"{_LAYER.replace('to_q', 'processor')}.to_q_lora.{n}.weight": v
        for n, v in (("down", down), ("up", up))
    }
    loha = {f"{flat}.hada_w{k}_{n}": v.clone() for k in (1, 2) for n, v in (("a", up), ("b", down))}
    lokr = {f"{flat}.lokr_w1": torch.randn(4, 4), f"{flat}.lokr_w2": torch.randn(4, 4)}
    dora = {f"{_LAYER}.lora_A.weight": down, f"{_LAYER}.lora_B.weight": up}
    dora[f"{_LAYER}.lora_magnitude_vector"] = torch.ones(16)
    notes = {"ss_network_dim": "4", "ss_network_alpha": "2", "ss_network_module": "networks.lora"}
    a1111 = {"emb_params": torch.randn(2, 16)}
    sdxl = {"clip_l": torch.randn(2, 16), "clip_g": torch.randn(2, 32)}
    files = {
        "PEFT": of_peft,
        "old diffusers": diffusers_old,
        "LoHa": loha,
        "LoKr": lokr,
        "DoRa": dora,
    }
    for kind, tensors in (files | {"web UI": a1111, "SDXL embedding": sdxl}).items():
        path = work / f"{kind.replace(' ', '-')}.safetensors"
        save_tensors(path, tensors, notes)
        yield Case(f"adapter {kind}", path, path, read_adapter_file)
    for kind, content in (
        ("legacy embedding", {"string_to_param": {"*": torch.randn(2, 16)}, "name": "x"}),
        ("legacy LoRA", diffusers_old),
    ):
        path = work / f"{kind.replace(' ', '-')}.{'pt' if 'emb' in kind else 'bin'}"
        torch.save(content, path)
        yield Case(f"adapter {kind}", path, path, read_legacy)


def _sources(work: Path) -> Iterable[Case]:
    folder = work / "tables"
    lines = [f"images/{k}.png\ta smear\t{'ab'[k % 2]}\tp{k}\t{40 + k}" for k in range(4)]
    text = "\n".join(["file_name\ttext\tlabel\tpatient\tage", *lines]) + "\n"
    rows = [
        {
            "file_name": f"images/{k}.png",
            "text": "a smear",
            "label": "ab"[k % 2],
            "patient": f"p{k}",
        }
        for k in range(4)
    ]
    of_json = "".join(json.dumps(row) + "\n" for row in rows)
    for name, content in (
        ("metadata.tsv", text), ("metadata.csv", text.replace("\t", ",")), ("metadata.jsonl", of_json),
    ):  # fmt: skip
        root = folder / name.rpartition(".")[2]
        for number in range(4):
            path = root / "images" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(make_png(number))
        (root / name).write_text(content)
        yield Case(f"source {name}", root / name, root, read_source)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    series = work / "series"
    series.mkdir()
    for number in range(3):
        grey = pixels[..., number]
        (series / f"{number}.dcm").write_bytes(
            encode_image(grey, PROVENANCE, "dicom", number=number)
        )
    yield Case("source DICOM", series / "1.dcm", series, read_source)
    values = np.random.default_rng(1).integers(0, 900, (32, 32, 6)).astype(np.int16)
    for name in ("volume.nii", "volume.nii.gz"):
        path = work / name.replace(".", "-") / "a" / name
        path.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 2, 3, 1])), path)
        yield Case(f"source {name}", path, path.parent.parent, read_source)
    deep = work / "deep" / "a" / "deep.tiff"
    deep.parent.mkdir(parents=True)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(deep)
    yield Case("source 16-bit TIFF", deep, deep.parent.parent, read_source)


def _set_at_utility(path: Path) -> Any:
    from vesalius.evaluate.references import recorded_training
    from vesalius.utility.pool import read_real, read_synthetic

    table = path.parent / "real.parquet"
    shutil.copyfile(_TABLE[0], table)
    try:
        recorded_training([path], table)
        made = read_synthetic(path, read_real(table, {}, "label"), "label")
        return [made.images.encoded(k) for k in range(len(made.images))]
    finally:
        table.unlink()


def _set_at_synthesize(path: Path) -> Any:
    store = path.name.removeprefix("set-")
    from vesalius.synthesize.claim import claimed, settle
    from vesalius.synthesize.finish import finish
    from vesalius.synthesize.shards import Shard
    from vesalius.synthesize.store import fault, recorded

    with claimed(path, Shard(0, 1)) as own:
        settle(
            path, own, {"plan": "p", "model_hash": "m", "defaults": {"steps": 2}, "store": store}
        )
        for number in recorded(path):
            fault(path, number, [0, 1, 2])
        finish(path, own, 1, changed=False)
        finish(path, own, 1, changed=True)
    rows = rows_with_images(path)
    return [load() for load in loads(path, rows)]


_TABLE: list[Path] = []


def _sets(work: Path, tables: Path) -> Iterable[Case]:
    _TABLE[:] = [tables / "pairs.parquet"]
    about = {"synthetic": True, "plan": "p", "model": "m", "model_hash": "m", "adapters": []}
    about |= {"defaults": {"steps": 2}, "guard": None, "attempts": 4}
    about |= {
        "training_rows": {"model": "0" * 64, "adapters": []},
        "counts": {"rows": 3, "images": 3},
    }
    for store in ("folder", "webdataset", "parquet"):
        folder = work / f"set-{store}"
        for name in ("work", "chunks"):
            (folder / name).mkdir(parents=True)
        save_chunk(folder, folder / "work", 0, 1, [_made(number) for number in range(3)], store)
        (folder / "work").rmdir()
        (folder / "about.json").write_text(json.dumps(about | {"store": store}))
        record = json.loads((folder / "chunks" / "000000.json").read_text())
        write_manifest(folder / "manifest.jsonl", record["rows"])
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".jsonl", ".json", ".tar", ".parquet"):
                yield Case(f"set at utility, {store}", path, folder, _set_at_utility)
                yield Case(f"set at synthesize, {store}", path, folder, _set_at_synthesize)


def _made(number: int) -> Made:
    data = make_png(number)
    facts = {"row": number, "label": "a", "caption": "a smear", "synthetic": True, "prompt": "a"}
    facts |= {"seed": number, "model": "m", "model_hash": "m", "adapters": [], "version": "1"}
    facts |= {"steps": 2, "guidance": 2.0}
    facts |= {"sha256": digest(data), "attempts": 1, "rejected": []}
    return Made(f"{number:06}.png", facts, data)


def _log(path: Path) -> Any:
    from vesalius.augment.report import held_out_loss
    from vesalius.train.log import Log

    Log(path / "run" / "lora" / "log.jsonl").rewind(32)
    return held_out_loss(path, "lora")


def _adapter_folder(path: Path) -> Any:
    from vesalius.models.trained_on import training_digest

    return training_digest(path)


def _features(path: Path) -> Any:
    from vesalius.models.networks.features import open_features

    store = open_features(path, _IDENTITY, _HASHES)
    missing = store.missing()
    return None if len(missing) else store.rows("features")


_IDENTITY = {"extractor": "tiny", "weights": "w", "resize": "squash"}


def _calibration(path: Path) -> Any:
    from vesalius.images.calibration import Calibration

    try:  # as the guard's cache reads it: one that is damaged is made again
        return Calibration.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _augment_record(path: Path) -> Any:
    from vesalius.augment.record import Identity, read_record

    return read_record(path, Identity({"path": "p", "sha256": "s"}, {"name": "m", "hash": "h"}, {}))


def _runs(work: Path) -> Iterable[Case]:
    from vesalius.augment.choose import Amount, Choice
    from vesalius.augment.record import Chosen, Identity, Record
    from vesalius.models.networks.features import open_features

    way = work / "way"
    log = way / "run" / "lora" / "log.jsonl"
    log.parent.mkdir(parents=True)
    events = [{"seen_images": 8, "loss": 0.5}, {"seen_images": 16, "validation": {"loss": 0.4}}]
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    yield Case("training log", log, way, _log)
    identity = Identity({"path": "p", "sha256": "s"}, {"name": "m", "hash": "h"}, {})
    amount = Amount({"per_class": 4}, "as asked", None, {"a": 4})
    chosen = Chosen(
        {"how": "x", "images": {}, "notes": []}, Choice("none", "asked"), amount, None, {}
    )
    (work / "augmented").mkdir()
    Record("vesalius augment", identity, chosen).write(work / "augmented")
    path = work / "augmented" / "augment.json"
    yield Case("record of augment", path, path.parent, _augment_record)
    path = work / "adapter" / "adapter.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"base": "m", "training_rows_sha256": "0" * 64, "trigger": ["<x>"]}))
    yield Case("adapter.json", path, path.parent, _adapter_folder)
    store = open_features(work / "features", _IDENTITY, _HASHES)
    store.fill(lambda k: {"features": torch.randn(len(k), 8)}, 4)
    for path in sorted((work / "features").rglob("*.safetensors")):
        yield Case("features", path, work / "features", _features)
    latents = open_store(
        work / "latents", {"autoencoder": "a", "cache format": "3"}, keys_of_hashes(_HASHES)
    )
    latents.fill(lambda k: {"mean": torch.randn(len(k), 4, 4, 4).half()}, 4)
    (work / "latents" / "scaling.json").write_text(json.dumps({"rows": "r", "scaling_factor": 1.2}))
    for path in sorted((work / "latents").iterdir()):
        if path.suffix in (".json", ".safetensors"):
            yield Case("latents", path, path.parent, _latents)


def _latents(path: Path) -> Any:
    from vesalius.train.latents import _scaling_factor

    made_with = {"autoencoder": "a", "cache format": "3"}
    store = open_store(path, made_with, keys_of_hashes(_HASHES))
    if not len(store.missing()):
        store.rows("mean")
        return _scaling_factor(store, torch.arange(4))
    return None
