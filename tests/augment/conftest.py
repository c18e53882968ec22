"""Drawn images whose class is visible, and the settings by which a whole run takes seconds."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from tests.utility.conftest import CLASSES, labels_of, png, write_table

from vesalius.augment.run import augment
from vesalius.augment.settings import AugmentSettings
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


@contextmanager
def small_networks(home):
    """Every network that looks at images is a tiny one: mean colours of a grid."""

    def network():
        return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())

    def find(name):
        if name.endswith("missing"):
            raise VesaliusError(f"{name} cannot be had")
        view = View("squash", 8, filter="bilinear")
        return Extractor(name, view, (127.5,) * 3, (64.0,) * 3, 12, "0", network)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))  # the guard keeps things there
        patch.setattr(backbones, "find_extractor", find)
        patch.setattr(inputs, "find_extractor", find)
        yield


@pytest.fixture(scope="session")
def settings_of(base):
    """Makes settings by which a whole run takes seconds."""
    return lambda **changes: AugmentSettings(**{**QUICK, "model": str(base), **changes})


@pytest.fixture(scope="module")  # it patches modules
def quick(settings_of, tmp_path_factory):
    """The same, with small networks."""
    with small_networks(tmp_path_factory.mktemp("home")):
        yield settings_of


@pytest.fixture(scope="session")
def straight(pairs, settings_of, tmp_path_factory):
    """A whole run without a stop: its folder, its record and the lines of its steps."""
    out, lines = tmp_path_factory.mktemp("straight") / "out", []
    with small_networks(tmp_path_factory.mktemp("home")):
        done = augment(pairs, out, settings_of(), on_step=lines.append)
    return out, done.document, lines
