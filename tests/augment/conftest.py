"""Drawn images whose class is visible, and the settings by which the whole way takes seconds."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from tests.utility.conftest import CLASSES, labels_of, png, write_table

from vesalius.augment.run import augment
from vesalius.augment.settings import Settings
from vesalius.errors import VesaliusError
from vesalius.evaluate import inputs
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.resize import View
from vesalius.utility import backbones

CONTRAST = 0.2  # of the whole range
QUICK = {
    "images_seen": 16,
    "overrides": ("optimisation.precision=float32",),
    "steps": 2,
    "seeds": 2,
    "classifier_steps": 30,
    "backbone": "tiny",
    "extractors": ("timm:tiny",),
    "per_class": 4,
    "arms": ("oversampled", "mixed"),
    "ratios": (0.2,),
    "samples": 1,
    "device": "cpu",
}


def drawn(label, rng):
    """Static in a tint that the class decides, more or less: what a random generator draws, too."""
    tint = np.eye(3)[CLASSES.index(label)] * 40 + rng.normal(0, 30, 3)
    return np.clip(rng.normal(110, 50, (40, 40, 3)) + tint, 0, 255).astype(np.uint8)


def write_pairs(path, count=90, splits=None, **more):
    """Images of three classes, one a patient; on no side yet unless it is said."""
    rng, labels = np.random.default_rng(0), labels_of(count)
    images = [png(drawn(label, rng)) for label in labels]
    return write_table(path, labels, splits or ["train"] * count, images=images, **more)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A table of 90 images."""
    return write_pairs(tmp_path_factory.mktemp("pairs") / "real.parquet")


@pytest.fixture(scope="session")
def base(tiny_flow, tmp_path_factory):
    """A tiny random generator that says which image it has seen: none of the table's."""
    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(tiny_flow, folder)
    vae = AutoencoderTiny.from_pretrained(folder / "vae")
    last = vae.decoder.layers[-1]
    with torch.no_grad():  # random weights draw blank images, which the guard rejects
        level = vae.decoder.layers(torch.randn(16, 4, 4, 4, generator=torch.manual_seed(0)))
        mean, deviation = level.mean((0, 2, 3)), level.std((0, 2, 3))
        last.weight *= (CONTRAST / deviation)[:, None, None, None]
        last.bias.copy_(0.45 - CONTRAST / deviation * (mean - last.bias))
    vae.save_pretrained(folder / "vae")
    rows = [{"sha1": "0" * 40, "group": "somebody", "source": "elsewhere"}]
    (folder / "training_rows.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")  # it, or what it uses, patches modules
def quick(base, tmp_path_factory):
    """Makes settings; every network that looks at images is a tiny one: mean colours of a grid."""

    def network():
        return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())

    def find(name):
        if name.endswith("missing"):
            raise VesaliusError(f"{name} cannot be had")
        view = View("squash", 8, filter="bilinear")
        return Extractor(name, view, (127.5,) * 3, (64.0,) * 3, 12, "0", network)

    def make(**changes):
        return Settings(**{**QUICK, "model": str(base), **changes})

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # the guard keeps things there
        patch.setattr(backbones, "find_extractor", find)
        patch.setattr(inputs, "find_extractor", find)
        yield make


@pytest.fixture(scope="module")  # it, or what it uses, patches modules
def straight(pairs, quick, tmp_path_factory):
    """The whole way, gone without a stop: its folder, its record and what was told of it."""
    out, told = tmp_path_factory.mktemp("straight") / "out", []
    return out, augment(pairs, out, quick(), on_step=told.append), told
