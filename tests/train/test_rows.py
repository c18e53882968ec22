"""Which rows are drawn how often, and text states that are encoded during training."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.models.text import encode_prompts
from vesalius.pairs.table import read_pairs
from vesalius.train.conditioning import EncodedText
from vesalius.train.draws import generator
from vesalius.train.rows import TrainingPairs, choose_rows, images_encoded, row_weights


def plan(**fields):
    required = {"seen_images": 8, "batch": 8, "lr": 1e-3, "validate_images": 8}
    return Optimisation(**required, checkpoint_images=8, **fields)


def share(weights, chosen):
    return (weights[torch.tensor(chosen)].sum() / weights.sum()).item()


def test_labels_of_a_set_are_drawn_equally_often_and_sets_by_their_temperature():
    sources = ["big"] * 90 + ["small"] * 10
    labels = ["rare"] * 9 + ["common"] * 81 + ["rare"] * 5 + ["common"] * 5
    weights = row_weights(sources, 1.0, labels)
    rare = [label == "rare" for label in labels]
    assert share(weights, rare) == pytest.approx(0.5)
    assert share(weights, [source == "small" for source in sources]) == pytest.approx(0.1)
    weights = row_weights(sources, 0.0, labels)
    assert share(weights, rare) == pytest.approx(0.5)
    assert share(weights, [source == "small" for source in sources]) == pytest.approx(0.5)


def test_prior_rows_are_drawn_and_weighted_as_asked_and_never_validated(tiny_pairs):
    first = read_pairs(tiny_pairs)
    pairs = TrainingPairs(first, read_pairs(tiny_pairs))
    rows = choose_rows(
        pairs,
        plan(),
        label="nodule",
        prior=pairs.added(),
        prior_share=0.25,
        prior_weight=0.5,
    )
    labels = pairs.column("label")
    prior = [row >= pairs.own for row in rows.train]
    assert {labels[row] for row in rows.train if row < pairs.own} == {"nodule"}
    assert share(rows.weights, prior) == pytest.approx(0.25)
    assert rows.importance[torch.tensor(prior)].unique().tolist() == [0.5]
    assert max(rows.held_out) < pairs.own
    assert {labels[row] for row in rows.held_out} == {"nodule"}


def test_the_loss_is_measured_on_as_many_held_out_rows_as_asked_always_the_same(tiny_pairs):
    pairs = TrainingPairs(read_pairs(tiny_pairs))
    some = choose_rows(pairs, plan()).validated(plan(validation_size=3))
    assert len(set(some)) == 3 and set(some) <= set(pairs.rows("val"))
    draw = generator(0, "validation")  # as runs begun before this was a method have chosen
    held_out = torch.tensor(pairs.rows("val"))
    assert some == held_out[torch.randperm(len(held_out), generator=draw)[:3]].tolist()
    train, every = len(pairs.rows("train")), len(pairs)
    assert images_encoded(pairs, 1, some) == train + 3 < every
    symmetric = [pairs.column("symmetry")[row] == "square" for row in pairs.rows("train")]
    assert images_encoded(pairs, 8, some) == train + 3 + 7 * sum(symmetric)


def test_joined_tables_give_each_row_its_own_image_and_leave_unused_rows_out(tiny_pairs):
    first = read_pairs(tiny_pairs)
    pairs = TrainingPairs(first, first).reading(captions=False)
    kept = len(first.rows("train")) + len(first.rows("val"))
    assert len(pairs) == kept + len(first.rows("train"))
    assert set(pairs.column("caption")) == {""}
    hashes = first.column("sha1")
    for row in (0, kept - 1, kept, len(pairs) - 1):
        source = hashes.index(pairs.column("sha1")[row])
        assert pairs.encoded(row) == first.encoded(source)


def test_a_row_without_a_caption_has_the_empty_one(tiny_pairs, tmp_path):
    # the caches, the recipes' prompts and the notes of adapters sort captions
    table = pq.read_table(tiny_pairs)
    captions = [None, *table["caption"].to_pylist()[1:]]
    place, path = table.column_names.index("caption"), tmp_path / "pairs.parquet"
    pq.write_table(table.set_column(place, "caption", pa.array(captions)), path)
    pairs = TrainingPairs(read_pairs(path))
    assert set(pairs.column("caption")) == {"", *captions[1:]}


def test_a_label_that_is_not_there_is_told_with_those_that_are(tiny_pairs):
    with pytest.raises(VesaliusError, match="effusion, nodule"):
        choose_rows(read_pairs(tiny_pairs), plan(), label="fracture")


@pytest.mark.parametrize("model", ["tiny_sd", "tiny_flow"])
def test_states_encoded_in_training_are_those_of_sampling(model, request):
    base = load_generator(str(request.getfixturevalue(model)), "cpu", "float32")
    captions = [["chest x-ray, nodule"], ["a lung"], ["the left retina", "a retina"]]
    text = EncodedText(base.tokenizer, base.text_encoder, captions, "cpu")
    rows, dropped = torch.tensor([2, 0, 1]), torch.tensor([False, False, True])
    with torch.no_grad():
        states = text(rows, dropped, None)
    expected = ["the left retina", "chest x-ray, nodule", ""]
    torch.testing.assert_close(states, encode_prompts(base.tokenizer, base.text_encoder, expected))
    draws = [text(rows[:1], dropped[:1], torch.Generator().manual_seed(k)) for k in range(9)]
    assert len({draw.sum().item() for draw in draws}) == 2  # both captions of the row are met
