"""Pairs of patients are alike in all but training; the checks beside an attack say where they are not."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vesalius.evaluate.metrics import audit, membership
from vesalius.evaluate.metrics.attacked import (
    Attacked,
    attacked,
    pair_patients,
    reduced,
    worded,
)
from vesalius.evaluate.metrics.base import Case, Models
from vesalius.evaluate.metrics.losses import proximal_errors
from vesalius.evaluate.model import EvaluatedModel
from vesalius.evaluate.references import HELD_OUT, TRAIN, Training, why_no_coin
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.image_set import ImageSet, survey
from vesalius.models.embeddings import add_tokens
from vesalius.models.generator import load_generator
from vesalius.statistics.figure import Figure, measured, select


def the_set(groups, labels=None, seed=0, level=0):
    """Noise, with the patient and label of each image."""
    rng, count = np.random.default_rng(seed), len(groups)
    files = []
    for _ in range(count):
        buffer = io.BytesIO()
        pixels = rng.integers(level, level + 100, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        files.append(buffer.getvalue())
    labels = labels or ["nodule"] * count
    columns = {"group": list(groups), "label": labels, "source": ["lungs"] * count}
    columns["caption"] = [f"chest x-ray, {label}" for label in labels]
    images = ImageSet([lambda data=data: data for data in files], columns)
    classes = [frozenset({label}) for label in labels]
    return ComparedSet("rows", images, survey(images), {}, columns, classes)


def test_a_pair_is_of_one_stratum_with_as_many_images():
    train = the_set(["a", "a", "b", "c", "d", "d"], ["x", "x", "x", "y", "x", "y"])
    held_out = the_set(["e", "f", "f", "g", "h", "h"], ["x", "x", "x", "x", "x", "x"])
    pairs = pair_patients(train, held_out)
    found = {
        tuple(sorted(own)): tuple(new) for own, new in zip(pairs.members, pairs.others, strict=True)
    }
    assert set(found) == {(0, 1), (2,)}  # c is of another label, d of two
    assert found[0, 1] in {(1, 2), (4, 5)}
    assert found[2,] in {(0,), (3,)}
    assert len(pairs.first(2)) in (1, 2) and len(pairs.first(3)) == 2


def test_a_patient_without_a_name_is_an_image():
    assert len(pair_patients(the_set([""] * 4), the_set([""] * 3))) == 3


def a_case(train, held_out, model=None, **more):
    models = Models(generator=model)
    return Case(train, {TRAIN: train, HELD_OUT: held_out}, {}, [], [], models=models, **more)


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_what_is_measured_of_patients(folder, request):
    generator = load_generator(request.getfixturevalue(folder), "cpu", "float32")
    case = a_case(the_set(["a", "a", "b"]), the_set(["c", "c", "d"], seed=1))
    found = attacked(case, generator, generator)
    assert (found.pairs, found.images, found.features.shape) == (2, 3, (4, 11))
    assert not found.loss.any() and not found.clid.any()  # the model is its own base
    assert found.base_features.min() > 0
    assert attacked(case, generator, generator) is found
    alone = attacked(a_case(*case.references.values()), generator, None)
    np.testing.assert_allclose(alone.loss, -alone.errors.mean(1))


def test_a_learnt_word_stands_before_captions_that_do_not_hold_it(tiny_sd):
    assert worded("an eye", ["<new>"]) == "<new>, an eye"
    assert worded("an eye, <new>", ["<new>"]) == "an eye, <new>"
    assert worded("", ["<new>"]) == "<new>"
    base, taught = (load_generator(tiny_sd, "cpu", "float32") for _ in range(2))
    width = taught.text_encoder.get_input_embeddings().weight.shape[1]
    add_tokens(taught.tokenizer, taught.text_encoder, "<new>", 1, torch.ones(1, width))
    sides = the_set(["a", "b"]), the_set(["c", "d"], seed=1)
    for words, changed in (((), False), (("<new>",), True)):
        model = EvaluatedModel("model", taught, lambda images: None, base, words=words)
        found = attacked(a_case(*sides, model), taught, base)
        assert found.loss.any() == changed


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_the_noise_that_a_prediction_says(folder, request):
    import torch

    from vesalius.models.noise_process import add_noise, process_of

    process = process_of(load_generator(request.getfixturevalue(folder), "cpu").scheduler)
    x, noise, t = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2), process.at(0.4)
    x_t = add_noise(process, x, noise, t)
    torch.testing.assert_close(process.noise(x_t, process.target(x, noise, t), t), noise)


def test_pia_knows_an_image_by_heart(tiny_flow):
    import torch

    model = load_generator(tiny_flow, "cpu", "float32")
    images = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    with torch.no_grad():
        pixels = torch.from_numpy(images[2]).permute(2, 0, 1)[None] / 127.5 - 1
        x = model.vae.encode(pixels).latents * model.vae.config.scaling_factor

    class ByHeart(torch.nn.Conv2d):
        def forward(self, x_t, timestep, text, return_dict):
            t = timestep / 1000
            noise = (x_t - (1 - t) * x) / t if float(t) else torch.zeros_like(x_t)
            return (noise - x,)

    by_heart = ByHeart(1, 1, 1)
    by_heart.config = model.unet.config
    model.unet = by_heart
    found = proximal_errors(model, images, ["a"] * 3)
    assert found[2] < 1e-3 * found[:2].min()


def seen(shift, pairs=100, blind=0.0, base=0.0):
    rng = np.random.default_rng(0)
    member = (np.arange(2 * pairs) < pairs).astype(float)[:, None]
    hard = rng.normal(1, 0.1, (2 * pairs, 4)) - base * member
    errors = hard - shift * member + rng.normal(0, 0.05, (2 * pairs, 4))
    return Attacked(
        pairs, pairs, errors, hard, (shift * member + rng.normal(0, 0.1, member.shape))[:, 0],
        rng.normal(size=2 * pairs), errors - hard, hard,
        rng.normal(size=(2 * pairs, 3)) + blind * member,
    )  # fmt: skip


def test_reduced():
    assert reduced("chest x-ray, two nodules") == "chest x-ray,"
    assert reduced("lung") == ""


def found_in(one, card=None, no_coin=""):
    model = SimpleNamespace(generator=None, base=None, name="m", card=card)
    case = a_case(the_set(["a"]), the_set(["b"]), model, no_coin=no_coin)
    case.memo["attacked"] = one
    return membership.measure(case), audit.measure(case)


def values(result):
    return {figure.metric: figure for figure in result.figures}


def test_members_are_found_by_every_attack():
    by, of_audit = map(values, found_in(seen(0.2)))
    assert by["auroc"].low > 0.9 and by["clid"].low > 0.8
    assert by["set_test"].value < 0.001 < by["set_test_of_base"].value
    assert by["blind"].low < 0.5 and by["base_model"].low < 0.5 < by["base_model"].high
    assert of_audit["epsilon"].value > 2
    assert of_audit["epsilon"].value <= of_audit["epsilon"].details["ceiling"]
    (said,) = audit._sentences(list(of_audit.values()), "")
    assert said[0] == "bad" and "at most" in said[1]


def test_strangers_are_not_accused():
    by, of_audit = map(values, found_in(seen(0.0)))
    assert by["auroc"].low < 0.5 and by["clid"].low < 0.5 and by["set_test"].value > 0.05
    assert of_audit["epsilon"].value == 0
    assert membership.unfair_attacks([*by.values()]) == []
    kinds = {kind for kind, _ in membership._sentences([*by.values()], "")}
    assert kinds == {"good"}


@pytest.mark.parametrize(
    ("how", "who"), [({"blind": 1.5}, "never saw"), ({"base": 0.2}, "the base model")]
)
def test_sides_that_differ_without_the_model_are_unfair(how, who):
    by, of_audit = found_in(seen(0.2, **how))
    (said,) = membership.unfair_attacks(by.figures)
    assert said.startswith(("a classifier", "the base")) and who in said
    assert {kind for kind, _ in membership._sentences(by.figures, "")} == {"unknown"}
    assert membership._answer(by.figures, "").startswith("unfair")
    assert {kind for kind, _ in audit._sentences(of_audit.figures, "")} == {"unknown"}


def test_a_blind_classifier_that_does_worse_than_guessing_says_nothing():
    worse = measured("membership", Figure("blind", 0.3, 0.2, 0.4))
    assert membership.unfair_attacks([worse]) == []


def test_a_claim_by_zeroing_out_allows_twice_its_epsilon():
    for claim, kind in ((0.5, "bad"), (9.0, "good")):
        card = SimpleNamespace(epsilon=claim, delta=1e-4)
        _, found = found_in(seen(0.2), card)
        ((said, text),) = audit._sentences(found.figures, "")
        assert said == kind and f"allows {2 * claim:.2f}" in text
        (figure,) = select(found.figures, metric="epsilon")
        assert figure.details["delta"] == 1e-4


def test_an_audit_needs_a_coin():
    _, found = found_in(seen(0.2), no_coin="the source's own split")
    (figure,) = found.figures
    assert figure.value is None and figure.why == "the source's own split"


def test_an_adapter_that_changes_nothing_is_not_called_private():
    same = seen(0.0)
    by, of_audit = map(values, found_in(replace(same, errors=same.base_errors)))
    assert by["auroc"].value is None and "err alike" in by["auroc"].why
    assert of_audit["epsilon"].value is None and "err alike" in of_audit["epsilon"].why


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"split": "val=0.2"}, ""),
        ({"split": "own"}, "--split own"),
        ({"split": "auto"}, "--split auto"),
        ({}, "--split auto"),
        ({"split": "val=0.2", "test": ["p1"]}, "somebody chose"),
        (None, "is not beside the table"),
    ],
)
def test_where_a_coin_decided(tmp_path, options, why):
    if options is not None:
        (tmp_path / "p.datasheet.json").write_text(json.dumps({"options": options}))
    table = tmp_path / "p.parquet"
    for training in (Training(False, ""), Training(True, "said so", path=table)):
        found = why_no_coin(table, training)
        assert why in found and bool(found) == bool(why)
    other = Training(True, "said so", path=tmp_path / "other.parquet")
    assert "another table" in why_no_coin(table, other)
