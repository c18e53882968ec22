"""Prompts of which a bundled model knows no word."""

from vesalius.sample.known import unknown_prompts


def test_a_prompt_without_a_known_word_is_told_with_what_there_is():
    told = list(unknown_prompts("mini", ["a cat", "a photo of a dog"]))
    assert len(told) == 1
    assert told[0].startswith("mini has learned no word of 'a cat': it knows ")
    assert "chest xray" in told[0]
    known = ["chest x-ray", "fundus photo, glaucoma", "Melanoma", "monocyte"]
    assert list(unknown_prompts("mini", known)) == []


def test_a_model_of_which_nothing_is_known_is_not_judged():
    assert list(unknown_prompts("some/model", ["a cat"])) == []
