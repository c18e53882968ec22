"""Other libraries read a set as docs/synthesis.md shows: every image, each with its label."""

import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from vesalius.core.manifest import read_manifest
from vesalius.models.generator import load_generator
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.pairs.open_images import open_images
from vesalius.pairs.table import read_pairs
from vesalius.sample.generate import TextToImage
from vesalius.synthesize.engine import synthesize
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.settings import SynthesizeSettings

LABELS = ("nodule", "edema|effusion", "stress test", "grade 2/3", "")
FOLDERS = {
    "nodule": "nodule",
    "edema|effusion": "edema+effusion",
    "stress test": "stress %74est",
    "grade 2/3": "grade 2%2F3",
    "": "_unlabelled",
}
COUNT = 13
PAGE = Path(__file__).resolve().parents[2] / "docs" / "synthesis.md"
SECTION = PAGE.read_text(encoding="utf-8").split("### Load it elsewhere")[1].split("\n### ")[0]
SHOWN = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture(scope="module")
def sets(tiny_flow, tmp_path_factory) -> Path:
    """`set`, a folder, and `tars`, of the same plan; the image of row k is of label k % 5."""
    folder = tmp_path_factory.mktemp("sets")
    model = TextToImage(load_generator(tiny_flow, "cpu", "float32"))
    plan = [PlanRow(k, f"x-ray {k}, größer", LABELS[k % 5], k) for k in range(COUNT)]
    for name, store in (("set", "folder"), ("tars", "webdataset")):
        settings = SynthesizeSettings(store=store, chunk=4, steps=1)
        synthesize(plan, folder / name, settings, model=model)
    return folder


def shown(word: str, sets: Path, monkeypatch) -> dict:
    """What the code of the page that uses `word` defines, run beside `set` and `tars`."""
    monkeypatch.chdir(sets)
    [code] = [code for code in SHOWN if word in code]
    names = {"json": json, "Path": Path}
    exec(code, names)
    return names


def right(labels, count=COUNT) -> None:
    assert Counter(labels) == Counter(LABELS[k % 5] for k in range(count))


def in_folders(paths) -> list[str]:
    labels = {folder: label for label, folder in FOLDERS.items()}
    return [labels[Path(path).parent.name] for path in paths]


def test_torchvision(sets, monkeypatch):
    images = shown("torchvision", sets, monkeypatch)["images"]
    assert images.classes == sorted(FOLDERS.values())
    right(in_folders(path for path, _ in images.samples))
    assert all(Path(path).parent.name == images.classes[k] for path, k in images.samples)
    assert images[0][0].size == (32, 32)


def test_timm(sets, monkeypatch):
    pytest.importorskip("timm")
    images = shown("timm", sets, monkeypatch)["images"]
    names = {number: name for name, number in images.reader.class_to_idx.items()}
    numbers = [images[k][1] for k in range(len(images))]
    right(in_folders(f"{names[number]}/x" for number in numbers))


def test_datasets(sets, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    images = shown("load_dataset", sets, monkeypatch)["images"]
    assert images.column_names == ["image", "text", "label"]
    right(images["label"])
    rows = {row["caption"]: row for row in read_manifest(sets / "set" / "manifest.jsonl")}
    assert len(rows) == len(images) == COUNT
    for image in images:
        assert image["label"] == rows[image["text"]]["label"]
        assert image["image"].text["seed"] == str(rows[image["text"]]["seed"])


def test_webdataset(sets, monkeypatch):
    try:
        import webdataset  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:  # its members are then looked at themselves
        labels = []
        for path in sorted((sets / "tars").glob("*.tar")):
            with tarfile.open(path) as tar:
                for name in tar.getnames():
                    if name.endswith(".cls"):
                        labels.append(tar.extractfile(name).read().decode())  # pyright: ignore
        right(labels)
        return
    images = list(shown("webdataset", sets, monkeypatch)["images"])
    right(label for _, label, _ in images)
    assert images[0][0].size == (32, 32)
    assert images[1][2].startswith("x-ray 1")


def test_monai(sets, monkeypatch):
    shown("training", sets, monkeypatch)
    path = sets / "set" / "dataset.json"
    try:
        listed = json.loads(path.read_text())
        try:
            from monai.data import load_decathlon_datalist  # pyright: ignore[reportMissingImports]

            items = load_decathlon_datalist(str(path), is_segmentation=False)
        except ImportError:  # it puts the list's folder before each path
            items = [{**i, "image": path.parent / i["image"]} for i in listed["training"]]
    finally:
        path.unlink()
    right(listed["labels"][str(item["label"])] for item in items)
    assert in_folders(i["image"] for i in items) == [
        listed["labels"][str(item["label"])] for item in items
    ]
    assert all(Path(item["image"]).is_file() for item in items)


def test_vesalius_reads_the_manifest_of_one_set_and_of_a_folder_of_sets(sets, tmp_path):
    for source in (sets / "set", sets):
        options = PairsSettings(duplicates="keep", split="none", reader="metadata")
        build_pairs([str(source)], tmp_path / "pairs.parquet", options, samples=0, overwrite=True)
        pairs = read_pairs(tmp_path / "pairs.parquet")
        right(label or "" for label in pairs.column("label"))
        assert set(pairs.column("synthetic")) == {"true"}


def test_a_set_with_a_folder_for_each_chunk_is_read_and_gone_on_with(sets, tmp_path, tiny_flow):
    """As earlier versions wrote it."""
    old = tmp_path / "old"
    (old / "chunks").mkdir(parents=True)
    (old / "about.json").write_bytes((sets / "set" / "about.json").read_bytes())
    for number in range(3):  # of four
        record = json.loads((sets / "set" / "chunks" / f"{number:06d}.json").read_text())
        folder = f"images/{number:06d}"
        (old / folder).mkdir(parents=True)
        for row in record["rows"]:
            path = f"{folder}/{Path(row['file']).name}"
            (old / path).write_bytes((sets / "set" / row["file"]).read_bytes())
            record["files"][path] = record["files"].pop(row["file"])
            row["file"] = path
        (old / "chunks" / f"{number:06d}.json").write_text(json.dumps(record))
    model = TextToImage(load_generator(tiny_flow, "cpu", "float32"))
    plan = [PlanRow(k, f"x-ray {k}, größer", LABELS[k % 5], k) for k in range(COUNT)]
    warnings = []
    settings = SynthesizeSettings(chunk=4, steps=1)
    synthesize(plan, old, settings, model=model, on_warning=warnings.append)
    assert not warnings
    images = open_images(old)
    right(images.column("label"))
    for k, row in enumerate(read_manifest(sets / "set" / "manifest.jsonl")):
        assert images.encoded(k) == (sets / "set" / row["file"]).read_bytes()


def test_what_died_within_its_first_chunk_leaves_nothing_to_be_counted(sets, tmp_path, tiny_flow):
    """Its images have the names of another format, should the next run ask for one."""
    out = tmp_path / "set"
    (out / "images" / "nodule").mkdir(parents=True)
    (out / "chunks").mkdir()
    (out / "images" / "nodule" / "000000.jpg").write_bytes(b"of a dead run")
    about = json.loads((sets / "set" / "about.json").read_text())
    (out / "about.json").write_text(json.dumps(about | {"format": "jpeg"}))
    model = TextToImage(load_generator(tiny_flow, "cpu", "float32"))
    synthesize([PlanRow(0, "x-ray", "nodule", 0)], out, SynthesizeSettings(steps=1), model=model)
    assert [path.name for path in (out / "images" / "nodule").iterdir()] == ["000000.png"]
