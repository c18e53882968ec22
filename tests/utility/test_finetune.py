"""Whole networks: real timm and CLIP classes, tiny and random, train behind the probe's interface."""

import numpy as np
import pytest
import torch
from tests.utility.conftest import labels_of, write_set, write_table

from vesalius.errors import VesaliusError
from vesalius.models.networks.resize import View
from vesalius.utility.arms import parse_arms
from vesalius.utility.curricula import curriculum
from vesalius.utility.finetune import FineTune
from vesalius.utility.folds import divide
from vesalius.utility.networks import Network, find_network
from vesalius.utility.pool import make_pool, read_real, read_synthetic
from vesalius.utility.run import utility
from vesalius.utility.settings import UtilitySettings

pytest.importorskip("timm")
HALF = (0.5,) * 3


@pytest.fixture
def pool(table, synthetic):
    real = read_real(table, {}, "label")
    return make_pool(real, [read_synthetic(synthetic, real, "label")])


def small(prompts):
    """A network of timm's in small."""
    import timm

    return timm.create_model(
        "resnet18", num_classes=len(prompts), channels=(8, 8, 8, 8), stem_width=8
    )


def tiny(make=small):
    return Network("tiny", make, View("squash", 32), HALF, HALF, 3e-3, {"network": "tiny"})


def trained(pool, arm="real", seeds=(0,), steps=12, network=None):
    folds, _ = divide(pool, test_split="test", folds=0, seed=0)
    arm = next(each for each in parse_arms([arm, "mixed"], [1.0]) if each.kind == arm)
    plans = [curriculum(arm, pool.targets, folds[0].train, folds[0].synthetic, s, exclusive=True)
             for s in seeds]  # fmt: skip
    learner = FineTune(pool, network or tiny(), steps=steps, batch=8)
    return learner(plans, seeds, folds[0].validation, folds[0].test)


@pytest.mark.parametrize("arm", ["real", "augmented", "weighted", "pretrained"])
def test_every_kind_of_arm_trains(pool, arm):
    found = trained(pool, arm)
    assert found.test.shape == (1, 20, 3)
    assert found.test.sum(-1) == pytest.approx(1)
    assert 0 < found.chosen[0]["stopped"] <= 12


def test_a_training_is_a_function_of_its_seed(pool):
    first, second = trained(pool, seeds=(0, 1)), trained(pool, seeds=(1,))
    assert (first.test[1] == second.test[0]).all()
    assert (first.test[0] != first.test[1]).any()


def test_the_whole_experiment_runs_on_a_network_from_scratch(
    table, synthetic, tmp_path, monkeypatch
):
    from vesalius.utility import networks

    monkeypatch.setattr(networks, "find_network", lambda name: tiny())
    settings = UtilitySettings(arms=("mixed",), ratios=(1.0,), seeds=2, steps=10, batch=4, tune="full",
                        backbone="scratch:resnet18", replicates=30, samples=0, device="cpu")  # fmt: skip
    document = utility(table, synthetic, tmp_path / "out", settings).document
    assert document["classifier"]["classifier"] == "all weights"
    assert document["backbone"] == {"name": "scratch:resnet18", "network": "tiny"}


def test_a_clip_trains_low_rank_layers_and_its_directions_alone(pool, tiny_clip):
    network = find_network(f"clip:{tiny_clip}")
    made = network.make(["a lung", "a nodule", "retina"])
    names = {name for name, p in made.named_parameters() if p.requires_grad}
    assert {"head", "bias"} <= names
    assert {name.split(".")[-3] for name in names - {"head", "bias"}} == {"lora_A", "lora_B"}
    found = trained(pool, steps=6, network=network)
    assert np.isfinite(found.test).all()


def test_a_clip_starts_from_its_prompts(tiny_clip):
    from vesalius.models.networks.clip import load_clip

    prompts = ["a lung", "a nodule"]
    made = find_network(f"clip:{tiny_clip}").make(prompts)
    clip = load_clip(str(tiny_clip))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    x = clip.processor(images=[image], return_tensors="pt")["pixel_values"]
    told = (clip.images([image]) @ clip.texts(prompts).T).numpy()
    with torch.no_grad():
        ours = made(x).numpy() / made.scale
    assert ours == pytest.approx(told, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scratch:resnet999", "timm has no network 'resnet999'"),
        ("inception", "for --tune probe"),
        ("clip:no/where", "not in the hub's cache"),
        ("timm:resnet18=/no/file.safetensors", "no weights at"),
    ],
)
def test_a_network_that_cannot_be_had_is_one_line(name, said):
    with pytest.raises(VesaliusError, match=said):
        find_network(name)


def test_timm_from_scratch_and_from_a_file(tmp_path):
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("test_resnet", num_classes=5)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    pretrained = find_network(f"timm:test_resnet={tmp_path / 'w.safetensors'}")
    scratch = find_network("scratch:test_resnet")
    x = torch.randn(2, 3, 64, 64)
    assert pretrained.make(["a", "b", "c"]).eval()(x).shape == (2, 3)
    assert scratch.make(["a", "b"]).eval()(x).shape == (2, 2)
    assert pretrained.lr < scratch.lr


def test_findings_train_too(tmp_path):
    labels = [
        "cyst|nodule" if k % 3 == 0 else "nodule" if k % 3 == 1 else "scar" for k in range(90)
    ]
    table = write_table(tmp_path / "t.parquet", labels,
                        ["train"] * 50 + ["val"] * 20 + ["test"] * 20)  # fmt: skip
    real = read_real(table, {}, "label")
    made = make_pool(real, [read_synthetic(write_set(tmp_path / "s", labels_of(9)), real, "label")])
    assert made.kind == "multi-label"
    found = trained(made, "weighted", steps=6)
    assert found.test.shape == (1, 20, 3)
