"""A text encoder learns from pairs what its captions look like, and is kept alone."""

import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, normalize

from vesalius.config import ContrastiveRecipe, load_recipe
from vesalius.core.trained_on import find_rows, read_rows
from vesalius.errors import VesaliusError
from vesalius.models.text import encode_prompts
from vesalius.models.text_encoder import adapted_folder, load_text_encoder
from vesalius.models.towers import TextTower
from vesalius.pairs.table import read_pairs
from vesalius.train.contrast import contrastive_loss, label_recall, label_separation, recall
from vesalius.train.draws import generator
from vesalius.train.image_inputs import Crops
from vesalius.train.methods.contrastive import ContrastiveMethod
from vesalius.train.run import train_recipe
from vesalius.train.session import Session


@pytest.fixture(scope="module")
def source(tiny_flow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "bert"
    shutil.copytree(tiny_flow / "text_encoder", folder)
    shutil.copytree(tiny_flow / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def recipe_of(source, seen_images=640, **values):
    optimisation = {
        "seen_images": seen_images,
        "batch": 16,
        "lr": 3e-3,
        "validate_images": 160,
        "validation_size": 64,
        "checkpoint_images": 160,
        "precision": "float32",
    }
    recipe = {
        "method": "contrastive",
        "name": "tiny",
        "text_encoder": {"source": str(source), "tokens": 16},
        "size": 32,
        "image_encoder": "test_convnext",
        "width": 16,
        "optimisation": optimisation | values.pop("optimisation", {}),
    }
    return ContrastiveRecipe.model_validate(recipe | values)


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_loss_is_clip_s_where_all_captions_differ():
    text, image, scale = unit(6, 4), unit(6, 4, seed=1), torch.tensor(9.0)
    answer = torch.arange(6)
    logits = 9 * image @ text.T
    theirs = (cross_entropy(logits, answer) + cross_entropy(logits.T, answer)) / 2
    torch.testing.assert_close(contrastive_loss(text, image, scale, answer), theirs)


def test_pairs_with_one_caption_are_no_negatives():
    """By hand: -log of each right answer's probability, averaged over the equals."""
    text, image = unit(4, 3), unit(4, 3, seed=1)
    text[2] = text[0]
    logits = (5 * image @ text.T).double().numpy()
    equals = {0: [0, 2], 1: [1], 2: [0, 2], 3: [3]}
    total = 0.0
    for scores in (logits, logits.T):
        logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        total -= np.mean([np.mean([logs[row, k] for k in right]) for row, right in equals.items()])
    ours = contrastive_loss(text, image, torch.tensor(5.0), torch.tensor([7, 1, 7, 3]))
    assert ours.item() == pytest.approx(total / 2, rel=1e-5)
    perfect = contrastive_loss(text, text, torch.tensor(100.0), torch.tensor([7, 1, 7, 3]))
    assert perfect.item() == pytest.approx(math.log(2) / 2, abs=0.02)  # two equals share one bit


def test_pairs_of_one_label_are_equals_too_where_asked():
    text, image, scale = unit(5, 4), unit(5, 4, seed=1), torch.tensor(9.0)
    caption, label = torch.arange(5), torch.tensor([0, 1, 0, 2, 1])
    by_label = contrastive_loss(text, image, scale, caption, label)
    torch.testing.assert_close(by_label, contrastive_loss(text, image, scale, label))
    one = torch.zeros(5, dtype=torch.long)  # one caption, and labels that differ
    torch.testing.assert_close(
        contrastive_loss(text, image, scale, one, caption),
        contrastive_loss(text, image, scale, one),
    )


def test_recall_counts_any_image_of_a_caption():
    text = torch.eye(3)
    image = torch.tensor([[1.0, 0.1, 0], [0.9, 1.0, 0], [0, 0.2, 1.0], [0, 1.1, 0.3]])
    caption = torch.tensor([0, 0, 2, 1])
    # the second image is nearer to caption 1 than to its own; every caption finds an image
    assert recall(text, image, caption, 1).item() == pytest.approx((3 / 4 + 1) / 2)
    assert recall(text, image, caption, 2).item() == 1
    assert recall(text, image, caption, 5).item() == 1  # fewer captions than that


def test_an_image_finds_its_label_by_any_caption_of_it():
    text = torch.eye(3)
    image = torch.tensor([[0, 1.0, 0], [0.1, 1, 0], [0, 0.1, 1], [1.0, 0, 0]])
    caption, label = torch.tensor([0, 1, 2, 2]), torch.tensor([7, 7, 3, 3])
    # the first finds another caption of its label, the last one of another label
    assert label_recall(text, image, caption, label).item() == pytest.approx(3 / 4)


def test_separation_is_the_distance_between_labels_in_that_within_them():
    states = torch.tensor([[0.0], [1], [10], [11], [5], [7]])
    source, label = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 2])
    # the first set: 1 within, (10 + 11 + 9 + 10) / 4 between; the second has one label
    assert label_separation(states, source, label) == pytest.approx(10)
    assert label_separation(3 * states, source, label) == pytest.approx(10)
    assert label_separation(states[:3:2], source[:3:2], label[:3:2]) is None
    assert label_separation(states[4:], source[4:], label[4:]) is None


def test_a_recipe_file_says_all_of_it(source, tmp_path):
    path = tmp_path / "adapt.yaml"
    path.write_text(yaml.safe_dump(recipe_of(source).model_dump(mode="json")))
    assert load_recipe(str(path)) == recipe_of(source)
    with pytest.raises(VesaliusError, match="did you mean image_encoder"):
        load_recipe(str(path), ["image_encodr=resnet18"])


@pytest.fixture(scope="module")
def labelled(tiny_pairs, tmp_path_factory):
    """The tiny pairs with captions that an image can be told by: nodules are dark."""
    table = pq.read_table(tiny_pairs)
    captions = pa.array([f"a lung with {label}" for label in table["label"].to_pylist()])
    path = tmp_path_factory.mktemp("labelled") / "pairs.parquet"
    pq.write_table(table.set_column(table.column_names.index("caption"), "caption", captions), path)
    return path


@pytest.fixture(scope="module")
def adapted(source, labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return train_recipe(recipe_of(source), labelled, out).folder


def test_recall_on_held_out_pairs_improves(adapted):
    figures = json.loads((adapted / "validation.json").read_text())
    assert figures["after"]["loss"] < figures["before"]["loss"] - 0.1
    assert figures["before"]["recall_1"] < 0.8
    assert figures["after"]["recall_1"] > 0.95


def test_the_text_encoder_alone_is_kept_and_reads_differently(adapted, source):
    assert adapted.name == "text_encoder"
    files = {path.name for path in adapted.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "validation.json"} <= files
    assert not [path for path in adapted.parent.rglob("*") if path.suffix in (".bin", ".pt")]
    tokenizer, encoder = load_text_encoder(str(adapted), 16)
    assert sum(p.numel() for p in encoder.parameters()) == sum(
        p.numel() for p in load_text_encoder(str(source), 16)[1].parameters()
    )
    before = encode_prompts(*load_text_encoder(str(source), 16), ["a lung with nodule"])
    after = encode_prompts(tokenizer, encoder, ["a lung with nodule"])
    words = 6  # [CLS] a lung with nodule [SEP]: every token's state has learnt, not the first alone
    assert ((after - before).abs().amax(-1)[0, :words] > 1e-3).all()
    assert "/" not in json.loads((adapted / "config.json").read_text()).get("_name_or_path", "")


def test_what_a_text_encoder_has_learned_from_is_told_by_what_is_trained_on_it(
    adapted, labelled, source
):
    # else a test image that it has seen would pass for one that no part of a generator has seen
    listed = read_rows(adapted.parent / "training_rows.json").images
    pairs = read_pairs(labelled)
    assert listed == {pairs.column("sha1")[row] for row in pairs.rows("train")}
    assert [find_rows(folder) for folder in adapted_folder(str(adapted))] == [
        adapted.parent / "training_rows.json"
    ]
    assert [find_rows(folder) for folder in adapted_folder(str(source))] == [None]
    assert adapted_folder("mini") == adapted_folder("someone/bert") == []


def test_a_resumed_run_is_the_uninterrupted_one(source, tiny_pairs, tmp_path):
    straight = train_recipe(recipe_of(source, 320), tiny_pairs, tmp_path / "straight").folder
    train_recipe(recipe_of(source, 160), tiny_pairs, tmp_path / "twice")
    go_on = Session(resume=True)
    again = recipe_of(source, 320)
    resumed = train_recipe(again, tiny_pairs, tmp_path / "twice", session=go_on).folder
    for name in ("model.safetensors", "validation.json"):
        assert (straight / name).read_bytes() == (resumed / name).read_bytes()


def test_as_many_pairs_are_told_from_each_other_in_all_parts_of_a_run(
    source, tiny_pairs, tmp_path, monkeypatch
):
    train_recipe(recipe_of(source, 160), tiny_pairs, tmp_path / "run")
    smaller = recipe_of(source, 320, optimisation={"micro": 8})
    with pytest.raises(VesaliusError, match="pairs told from each other 16, now it is 8"):
        train_recipe(smaller, tiny_pairs, tmp_path / "run", session=Session(resume=True))
    # of several processes each has its share
    monkeypatch.setattr("vesalius.train.methods.contrastive.world_size", lambda: 16)
    with pytest.raises(VesaliusError, match="leaves each process several"):
        ContrastiveMethod(recipe_of(source), read_pairs(tiny_pairs), Session())


@pytest.fixture(scope="module")
def phrased(tiny_pairs, tmp_path_factory):
    """The tiny pairs with two phrasings of each label."""
    table = pq.read_table(tiny_pairs)
    ways = ["a lung with {}", "{} of the right lung"]
    labels = enumerate(table["label"].to_pylist())
    captions = pa.array([ways[k // 2 % 2].format(label) for k, label in labels])
    path = tmp_path_factory.mktemp("phrased") / "pairs.parquet"
    pq.write_table(table.set_column(table.column_names.index("caption"), "caption", captions), path)
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A measuring network, its weights drawn at random."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "weights.safetensors"
    save_file(timm.create_model("test_convnext").state_dict(), path)
    return f"timm:test_convnext={path}"


def frozen_of(source, network, seen_images=640, **more):
    values = {"image_features": network, "positives": "label", "image_lr_scale": 3.0} | more
    return recipe_of(source, seen_images, **values)


@pytest.fixture(scope="module")
def by_features(source, phrased, network, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "run"
    return train_recipe(frozen_of(source, network), phrased, out).folder


def test_features_of_a_frozen_network_are_learnt_from(by_features, source):
    figures = json.loads((by_features / "validation.json").read_text())
    before, after = figures["before"], figures["after"]
    assert after["loss"] < before["loss"] - 0.1
    assert before["label_recall_1"] < 0.6
    assert after["recall_1"] > before["recall_1"]
    assert after["label_recall_1"] > 0.95
    assert after["label_separation"] > 1.5 * before["label_separation"]
    tokenizer, encoder = load_text_encoder(str(by_features), 16)
    before = encode_prompts(*load_text_encoder(str(source), 16), ["a lung with nodule"])
    after = encode_prompts(tokenizer, encoder, ["a lung with nodule"])
    assert ((after - before).abs().amax(-1)[0, :6] > 1e-3).all()
    made = {path.suffix for path in (by_features.parent / "features").rglob("*") if path.is_file()}
    assert made == {".safetensors"}


def test_a_resumed_run_on_features_is_the_uninterrupted_one(source, network, phrased, tmp_path):
    straight = train_recipe(frozen_of(source, network, 320), phrased, tmp_path / "straight").folder
    train_recipe(frozen_of(source, network, 160), phrased, tmp_path / "twice")
    again = frozen_of(source, network, 320)
    go_on = Session(resume=True)
    resumed = train_recipe(again, phrased, tmp_path / "twice", session=go_on).folder
    for name in ("model.safetensors", "validation.json"):
        assert (straight / name).read_bytes() == (resumed / name).read_bytes()
    other = frozen_of(source, network, 320, positives="caption")
    with pytest.raises(VesaliusError, match="positives"):
        train_recipe(other, phrased, tmp_path / "twice", session=go_on)


def test_each_text_of_a_batch_is_read_once_and_given_to_its_images(source, network, phrased):
    method = ContrastiveMethod(frozen_of(source, network), read_pairs(phrased), Session())
    method.lengths = method.lengths.clone()
    longer = int(method.caption.unique()[0])
    method.lengths[longer], method.mask[longer] = 16, True  # as if of another group
    captions = method.caption[[0, 2, 1, 3, 2, 0]]
    groups, which = method._grouped(captions)
    assert sum(len(ids) for ids, _ in groups) == len(captions.unique()) < len(captions)
    module = method.module.eval()
    assert isinstance(module, TextTower)
    with torch.no_grad():
        states = torch.cat([module.text_state(*group) for group in groups])[which]
        for row, caption in enumerate(captions):
            alone = module.text_state(*method._tokens(caption[None], 16))[0]
            torch.testing.assert_close(states[row], alone)


def test_what_does_not_go_with_features_is_told(source):
    for name, value in (("image_encoder", "own"), ("image_weights", "x.safetensors")):
        with pytest.raises(ValueError, match="in place of an image encoder"):
            recipe_of(source, image_features="inception", **{name: value})
    with pytest.raises(ValueError, match="from scratch"):
        recipe_of(source, text_encoder={"source": "x", "tokens": 16, "vocabulary": 99})


def test_a_loss_is_a_function_of_its_draw_alone(source, tiny_pairs):
    method = ContrastiveMethod(recipe_of(source), read_pairs(tiny_pairs), Session())
    rows = torch.tensor([3, 1, 20, 7])

    def loss(seed):
        torch.manual_seed(0)  # the loop does so for the networks' dropout
        return method.loss(rows, generator(seed))["loss"].item()

    assert loss(1) == loss(1) != loss(2)
    method.module.eval()
    assert method.validate(method.module) == method.validate(method.module)


def test_only_matrices_decay_and_the_image_encoder_has_its_own_rate(source, tiny_pairs):
    recipe = recipe_of(source, image_lr_scale=10.0, optimisation={"weight_decay": 0.1})
    method = ContrastiveMethod(recipe, read_pairs(tiny_pairs), Session())
    groups = method.parameter_groups()
    of = {id(p): group for group in groups for p in group["params"]}
    assert len(of) == len(list(method.module.parameters()))
    for name, weight in method.module.named_parameters():
        group = of[id(weight)]
        assert group["lr_scale"] == (1 if name.startswith("text_encoder.") else 10), name
        assert group["weight_decay"] == (0.1 if weight.ndim > 1 else 0), name


def test_images_are_turned_only_where_the_caption_stays_true(source, tiny_pairs):
    method = ContrastiveMethod(recipe_of(source), read_pairs(tiny_pairs), Session())
    crops = method.images
    assert isinstance(crops, Crops)
    turned = crops.symmetric.index(True), crops.symmetric.index(False)
    for row, differs in zip(turned, (True, False), strict=True):
        upright, mirrored = crops.crop(row, 1, 2, 0), crops.crop(row, 1, 2, 4)
        assert upright.shape == (3, 32, 32)
        assert torch.equal(upright, mirrored) != differs


def test_tables_that_nothing_can_be_learnt_from_are_told(source, tiny_pairs, tmp_path):
    table = pq.read_table(tiny_pairs)
    for column, value, told in (
        ("split", "train", "no rows in the split val"),
        ("split", "val", "no rows in the split train"),
        ("caption", " ", "has no caption"),
        ("caption", None, "has no caption"),
        ("caption", "lung", "all training rows have one caption"),
    ):
        index = table.column_names.index(column)
        edited = table.set_column(index, column, pa.array([value] * len(table), pa.string()))
        pq.write_table(edited, tmp_path / "edited.parquet")
        with pytest.raises(VesaliusError, match=told):
            train_recipe(recipe_of(source), tmp_path / "edited.parquet", tmp_path / "run")
        assert not (tmp_path / "run").exists()
    alone = recipe_of(source, optimisation={"micro": 1})
    with pytest.raises(VesaliusError, match="above 1"):
        train_recipe(alone, tiny_pairs, tmp_path / "run")
