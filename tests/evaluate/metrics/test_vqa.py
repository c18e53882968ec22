"""VQAScore: P(Yes) is the model's own at the first answer token, whatever is beside it in a batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.image_text import Captioned, other_captions, vqa_score
from vesalius.models.networks.vqa import TransformersVqa, first_tokens

TEMPLATE = "USER: <image>\n{question}"


def pictures(count=3):
    return list(np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8))


QUESTIONS = ['Does this figure show "lung"?', "Yes", "Please answer yes or no . lung nodule ?"]


@pytest.fixture(params=["llava", "blip2"])
def model(request):
    return TransformersVqa(str(request.getfixturevalue(request.param)))


def test_an_answer_depends_on_its_own_image_and_question_alone(model):
    """Questions of unequal length in one batch: padding must not reach the answer."""
    together = model(pictures(), QUESTIONS)
    assert together.shape == (3, 2)
    alone = np.concatenate([model([i], [q]) for i, q in zip(pictures(), QUESTIONS, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert (together > 0).all()
    assert (together.sum(1) < 1).all()
    other = model(pictures()[::-1], QUESTIONS)
    assert not np.allclose(together[0], other[0], rtol=1e-5)


@torch.no_grad()
def test_it_is_the_probability_that_the_model_gives_yes(llava):
    """Of a decoder: after the last token of the prompt."""
    model = TransformersVqa(str(llava))
    found = model(pictures(1), QUESTIONS[:1])
    inputs = model.processor(
        images=[Image.fromarray(pictures()[0])],
        text=[f"<image>\n{QUESTIONS[0]}"],
        return_tensors="pt",
    )
    after = model.model(**inputs).logits[0, -1].softmax(-1)
    words = model.processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    np.testing.assert_allclose(found[0], after[words].numpy(), rtol=1e-4)


@torch.no_grad()
def test_it_is_the_first_token_of_the_decoder(blip2):
    """Of an encoder with a decoder: after the token that the decoder starts with."""
    model = TransformersVqa(str(blip2))
    found = model(pictures(1), QUESTIONS[:1])
    image = [Image.fromarray(pictures()[0])]
    inputs = model.processor(images=image, text=QUESTIONS[:1], return_tensors="pt")
    start = torch.zeros(1, 1, dtype=torch.long)
    first = model.model(**inputs, decoder_input_ids=start).logits[0, 0].softmax(-1)
    words = model.processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    np.testing.assert_allclose(found[0], first[words].numpy(), rtol=1e-4)


def test_a_template_and_a_chat_s_own_form_the_prompt(llava):
    given = TransformersVqa(str(llava), template=TEMPLATE)
    plain = TransformersVqa(str(llava))
    assert given._prompt("Yes ?") == "USER: <image>\nYes ?"
    assert plain._prompt("Yes ?") == "<image>\nYes ?"
    plain.processor.chat_template = (
        "{% for m in messages %}USER:{% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    assert plain._prompt("Yes ?") == "USER:<image>Yes ?"
    assert not np.allclose(given(pictures(1), ["lung"]), plain(pictures(1), ["?"]))


class Told:
    """Says yes to what the image shows: retina where it is bright, lung where it is dark."""

    name = "told"

    def __call__(self, images, questions):
        right = [("retina" in q) == (i.mean() > 99) for i, q in zip(images, questions, strict=True)]
        return np.array([[0.6, 0.2] if yes else [0.1, 0.4] for yes in right])


def test_a_set_that_follows_its_captions_stands_above_shuffled_ones():
    images = [np.full((4, 4, 3), 200 * (k % 2), np.uint8) for k in range(20)]
    captions = ["lung", "retina"] * 10
    found = vqa_score(Told(), Captioned(iter(images), captions, captions), batch_size=3)
    assert found.score.value == pytest.approx(0.6)
    assert found.yes_of_both.value == pytest.approx(0.75)
    assert found.shuffled_score == pytest.approx(0.1)
    assert {name: each.n for name, each in found.classes.items()} == {"lung": 10, "retina": 10}


def test_equal_captions_are_asked_once():
    found = vqa_score(Told(), Captioned(pictures(2), ["lung", "lung"]))
    assert found.shuffled_score is None


def test_the_question_is_eyediff_s():
    asked = []

    class Listening(Told):
        def __call__(self, images, questions):
            asked.extend(questions)
            return super().__call__(images, questions)

    vqa_score(Listening(), Captioned(pictures(1), ["color {fundus}"]))
    assert asked == ['Does this figure show "color {fundus}"? Please answer yes or no.']


def test_other_captions_differ_from_one_s_own():
    captions = ["a", "b", "a", "c"] * 9
    assert all(one != own for one, own in zip(other_captions(captions), captions, strict=True))
    assert other_captions(["a", "a"]) == []


@pytest.mark.parametrize("spaced", [False, True])
def test_yes_is_one_token_with_its_space_or_without(spaced):
    """Byte-level vocabularies have two tokens for a word: both are an answer's first word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "Yes", "Y", "e", "s", "Ġ", *(["ĠYes"] if spaced else [])]
    pieces = {word: number for number, word in enumerate(words)}
    merges = [("Y", "e"), ("Ye", "s"), *([("Ġ", "Yes")] if spaced else [])]
    inner = Tokenizer(models.BPE(pieces | {"Ye": len(pieces)}, merges, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    ids = [pieces["Yes"], pieces["ĠYes"]] if spaced else [pieces["Yes"]]
    assert first_tokens(fast, "Yes") == ids
    assert first_tokens(fast, "No") == []


def test_what_is_no_such_model(tmp_path, llava):
    with pytest.raises(VesaliusError, match="hub's cache"):
        TransformersVqa("nobody/no-such-model")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(VesaliusError, match="cannot be loaded"):
        TransformersVqa(str(tmp_path))
    with pytest.raises(VesaliusError, match="no \\{text\\}"):
        vqa_score(Told(), Captioned(pictures(1), ["lung"]), question="Is this a lung?")
    with pytest.raises(VesaliusError, match="2 images for 1 captions"):
        vqa_score(Told(), Captioned(pictures(2), ["lung"]))
