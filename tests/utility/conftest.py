"""Drawn images, as a pairs table and as synthetic sets, and a tiny network that looks at them."""

import hashlib
import io
import json
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vesalius.images.encode import encode_image
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.resize import View
from vesalius.utility import backbones
from vesalius.utility.scores import truth_of

CLASSES = ("cyst", "nodule", "scar")


def drawn(rng, label, noise=30.0):
    """Blobs that no two images share, with a tint that the label decides, more or less."""
    coarse = rng.normal(128, 50, (6, 6, 3))
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize((40, 40), 3)
    tint = np.zeros(3)
    for part in label.split("|"):
        tint[CLASSES.index(part)] = 45
    pixels = np.asarray(image) * 0.7 + tint + rng.normal(0, noise, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_table(path, labels, splits, *, groups=None, images=None, seed=0, **more):
    rng = np.random.default_rng(seed)
    images = images or [png(drawn(rng, label)) for label in labels]
    keys = [hashlib.sha1(data).hexdigest() for data in images]
    table = {
        "image": [{"bytes": data, "path": None} for data in images],
        "caption": [f"picture of a {label}" for label in labels],
        "label": labels,
        "group": groups or [f"patient-{k}" for k in range(len(labels))],
        "split": splits,
        "source": ["drawn"] * len(labels),
        "sha1": keys,
        "symmetry": ["square"] * len(labels),
        **more,
    }
    pq.write_table(pa.table(table), path)
    return path


def write_set(folder, labels, *, about=None, seed=1, images=None):
    """A synthetic set as `vesalius synthesize` leaves it."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    rows = []
    for k, label in enumerate(labels):
        told = {"synthetic": True, "prompt": f"picture of a {label}", "seed": k}
        pixels = images[k] if images else drawn(rng, label)
        (folder / f"{k:03}.png").write_bytes(encode_image(pixels, told))
        rows.append({"file": f"{k:03}.png", "row": k, "label": label, **told})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if about is not None:
        (folder / "about.json").write_text(json.dumps(about))
    return folder


def digest(keys):
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def labels_of(count, shares=(0.5, 0.3, 0.2)):
    edges = np.cumsum(np.array(shares)[: len(shares)]) * 10
    return [CLASSES[int(np.searchsorted(edges, k % 10, side="right"))] for k in range(count)]


def real_table(folder):
    """90 images of three classes; patients with one image; train, val and test."""
    splits = ["train"] * 50 + ["val"] * 20 + ["test"] * 20
    sexes = ["female" if k % 2 else "male" for k in range(90)]
    return write_table(folder / "real.parquet", labels_of(90), splits, sex=sexes)


def about_of(table):
    """about.json of a generator that has seen the table's training rows."""
    rows = pq.read_table(table, columns=["sha1", "split"]).to_pylist()
    keys = [row["sha1"] for row in rows if row["split"] == "train"]
    return {"model": "tiny", "training_rows": {"model": digest(keys), "adapters": []}}


@pytest.fixture
def table(tmp_path):
    return real_table(tmp_path)


@pytest.fixture
def proven(table):
    return about_of(table)


@pytest.fixture
def synthetic(tmp_path, proven):
    """40 images that say what their generator has seen."""
    return write_set(tmp_path / "set", labels_of(40), about=proven)


@contextmanager
def tiny_extractors():
    """`tiny` in the place of every extractor: mean colours of a grid."""

    def network():
        return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())

    def find(name):
        view = View("squash", 8, filter="bilinear")
        return Extractor(name, view, (127.5,) * 3, (64.0,) * 3, 12, "0", network)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "find_extractor", find)
        yield


@pytest.fixture
def tiny_extractor():
    with tiny_extractors():
        yield


@pytest.fixture
def trial():
    """Draws truth (three classes) and predictions (S, N, C) that know the class so well."""

    def draw(worth: float = 1.0, seeds: int = 4, patients: int = 60, seed: int = 0, noise=0.3):
        rng = np.random.default_rng(7)  # truth and difficulty: the same in every arm
        of_patient = rng.choice(3, patients, p=[0.5, 0.3, 0.2])
        groups = np.repeat(np.arange(patients), 2)
        y = of_patient[groups]
        logits = 1.2 * rng.normal(size=(len(y), 3)) + worth * np.eye(3)[y]
        own = np.random.default_rng(seed).normal(size=(seeds, *logits.shape))
        p = np.exp(logits + noise * own)
        names = ["basophil", "eosinophil", "lymphocyte"]
        return truth_of(y, names, groups.tolist()), p / p.sum(-1, keepdims=True)

    return draw
