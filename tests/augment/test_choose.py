"""Method, length and amount follow from the data, the base and the machine; a wish goes first."""

from dataclasses import replace

import pytest
import torch

from vesalius.augment import choose as module
from vesalius.augment.base import find_base
from vesalius.augment.choose import amount, arms, choose, say_time
from vesalius.augment.division import Division
from vesalius.augment.settings import AugmentSettings
from vesalius.errors import VesaliusError
from vesalius.train.estimate import needs_of
from vesalius.utility.arms import KINDS

ASKED = AugmentSettings(device="cpu")


def division(**counts):
    labels = [name for name, count in counts.items() for _ in range(count)]
    many = len(labels)
    return Division(
        "table.parquet", ["a caption"] * many, labels, ["train"] * many, ["one"] * many, "", []
    )


@pytest.fixture(scope="module")
def tiny(base):
    return find_base(str(base), download=False)


def test_few_images_make_a_lora_and_many_train_all_weights(tiny):
    few = choose(division(a=400, b=500), tiny, ASKED, "cpu")
    many = choose(division(a=600, b=500), tiny, ASKED, "cpu")
    assert (few.method, many.method) == ("lora", "full")
    assert "900 training images" in few.why and "1,100 training images" in many.why
    recipe = few.recipe()
    assert recipe.lora.targets == "all"  # a small U-Net: see the recipe
    assert recipe.size == 32


def test_without_a_gpu_the_length_is_limited_and_says_so(tiny):
    choice = choose(division(a=450, b=450), tiny, ASKED, "cpu")
    assert choice.images_seen == module.MOST_ON_CPU and "without a GPU" in choice.length
    short = choose(division(a=50, b=50), tiny, ASKED, "cpu")
    assert short.images_seen == 2_400 and "24 passes over the 100 images" in short.length
    asked = choose(division(a=450, b=450), tiny, replace(ASKED, images_seen=20_001), "cpu")
    assert asked.images_seen == 20_000  # whole batches


def test_what_is_asked_for_is_taken(tiny):
    some = division(a=20, b=20)
    assert choose(some, tiny, replace(ASKED, method="full"), "cpu").method == "full"
    assert choose(some, tiny, replace(ASKED, method="none"), "cpu").overrides == []
    values = ("optimisation.lr=2e-4", "lora.rank=4")
    recipe = choose(some, tiny, replace(ASKED, overrides=values, seed=7), "cpu").recipe()
    assert (recipe.optimisation.lr, recipe.lora.rank, recipe.optimisation.seed) == (2e-4, 4, 7)
    words = choose(some, tiny, replace(ASKED, method="textual-inversion"), "cpu")
    assert words.trainings == 2
    assert words.images_seen * words.trainings <= module.MOST_ON_CPU


def test_on_a_gpu_the_largest_batch_that_fits_is_taken_then_a_smaller_method(tiny, monkeypatch):
    free = 10**12
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    many, found = division(a=600, b=500), []
    for _ in range(5):  # each time a little less than what was just chosen needs
        choice = choose(many, tiny, ASKED, "cuda")
        recipe = choice.recipe()
        found.append((choice.method, recipe.optimisation.micro))
        free = int(needs_of(recipe, tiny.folder).memory_bytes / module.USABLE) - 1
    assert found[:4] == [("full", None), ("full", 4), ("full", 2), ("full", 1)]
    assert found[4][0] in ("lora", "textual-inversion") and "would need" in choice.why
    free = 1000
    with pytest.raises(VesaliusError, match="no method is sure to fit"):
        choose(many, tiny, ASKED, "cuda")


def test_uneven_classes_are_topped_up_and_even_ones_doubled():
    uneven = amount(division(a=100, b=40, c=10), ASKED, "cpu")
    assert uneven.options == {"balance": True}
    assert uneven.counts == {"one/a": 0, "one/b": 60, "one/c": 90} and uneven.total == 150
    even = amount(division(a=100, b=90), ASKED, "cpu")
    assert even.options == {"ratio": 1.0} and even.total == 190
    several = amount(division(**{"a": 100, "a|b": 3}), ASKED, "cpu")
    assert several.options == {"ratio": 1.0}
    asked = amount(division(a=100, b=10), replace(ASKED, per_class=5), "cpu")
    assert asked.counts == {"one/a": 5, "one/b": 5}


def test_without_a_gpu_the_amount_is_limited_unless_it_was_asked_for():
    uneven = division(a=5000, b=40)
    assert amount(uneven, ASKED, "cpu").total == module.MOST_MADE_ON_CPU
    assert "limited to 2,000 of 4,960" in amount(uneven, ASKED, "cpu").why
    assert amount(uneven, replace(ASKED, balance=True), "cpu").total == 4960
    assert amount(uneven, ASKED, "cuda").total == 4960


def test_arms_that_would_never_see_a_class_are_left_out():
    assert "synthetic" not in arms((), {"one/a": 0, "one/b": 60}, KINDS)
    assert arms((), {"one/a": 5, "one/b": 60}, KINDS) == ()
    assert arms(("synthetic",), {"one/a": 0}, KINDS) == ("synthetic",)


def test_time_is_told_where_it_is_known(tiny):
    some = division(a=200, b=200)
    planned = amount(some, ASKED, "cpu")
    mini = find_base("mini", download=False)
    choice = choose(some, mini, ASKED, "cpu")
    assert say_time(choice, planned, mini, "cpu").startswith("about 20 minutes of training and 3")
    choice = choose(some, tiny, replace(ASKED, images_seen=16), "cpu")
    assert "training about 1 s" in say_time(choice, planned, tiny, "cpu")
