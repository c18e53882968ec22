"""CLIPScore: the cosines are the CLIP's own, and a set is told beside what ignoring prompts scores."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.image_text import Captioned, clip_score
from vesalius.models.networks.clip import load_clip

CAPTIONS = ["lung", "a lung", "retina"]


def pictures(count=3):
    return list(np.random.default_rng(0).integers(0, 256, (count, 40, 48, 3), dtype=np.uint8))


class Told:
    """A CLIP whose vectors are given: images by their first pixel, texts by their name."""

    name = "told"
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, 0.0]]))

    def images(self, images):
        return self.vectors[[int(image[0, 0, 0]) for image in images]]

    def texts(self, texts):
        return self.vectors[["lung", "retina", "away"].index(texts[0]) :][: len(texts)]


def scored(clip, images, captions, batch_size=32, **more):
    return clip_score(clip, Captioned(images, captions, **more), batch_size=batch_size)


def shown(*kinds):
    return [np.full((4, 4, 3), kind, np.uint8) for kind in kinds]


@torch.no_grad()
def test_the_cosines_are_those_of_the_whole_clip(tiny_clip):
    from transformers import CLIPModel, CLIPProcessor

    clip = load_clip(str(tiny_clip))
    found = clip_score(clip, Captioned(pictures(), CAPTIONS), batch_size=2)
    model, processor = (
        CLIPModel.from_pretrained(tiny_clip),
        CLIPProcessor.from_pretrained(tiny_clip),
    )
    inputs = processor(
        text=CAPTIONS,
        images=[Image.fromarray(image) for image in pictures()],
        return_tensors="pt",
        padding=True,
    )
    cosines = (model(**inputs).logits_per_image / model.logit_scale.exp()).numpy()
    own = cosines.diagonal()
    ours = clip.images(pictures()) @ clip.texts(CAPTIONS).T
    np.testing.assert_allclose(ours, cosines, atol=1e-5)
    assert found.score.value == pytest.approx(2.5 * own.clip(min=0).mean(), abs=1e-5)
    others = cosines[~np.eye(3, dtype=bool)]
    assert found.shuffled_score == pytest.approx(2.5 * others.clip(min=0).mean(), abs=1e-5)
    assert found.score.n == 3


def test_a_siglip_is_read_to_its_full_window(tiny_clip, tmp_path):
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = sizes | {"num_attention_heads": 2}
    text = heads | {"vocab_size": 200, "max_position_embeddings": 16, "projection_size": 8}
    vision = heads | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    for path in tiny_clip.glob("*token*"):
        shutil.copy(path, tmp_path)
    clip = load_clip(str(tmp_path))
    found = clip_score(clip, Captioned(pictures(), CAPTIONS))
    for vectors in (clip.images(pictures()), clip.texts(CAPTIONS)):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert found.score.low <= found.score.value <= found.score.high


def test_a_negative_cosine_scores_nothing():
    found = scored(Told(), shown(0, 0), ["away", "away"])
    assert found.score.value == 0


def test_a_set_that_follows_its_captions_stands_above_shuffled_ones():
    kinds, names = [0, 1] * 20, ["lung", "retina"] * 20
    follows = scored(Told(), shown(*kinds), names)
    ignores = scored(Told(), shown(*kinds[::-1]), names)
    assert follows.shuffled_score is not None
    assert follows.score.low > follows.shuffled_score
    assert follows.score.value == pytest.approx(2.5)
    assert ignores.score.value < 1.1


def test_equal_captions_cannot_be_shuffled():
    found = scored(Told(), shown(0, 1), ["lung", "lung"])
    assert found.shuffled_score is None


def test_each_finding_of_a_label_has_its_figure():
    found = scored(Told(), shown(0, 1, 1), ["lung", "retina", "lung"], labels=["a|b", "a", None])
    assert {name: figure.n for name, figure in found.classes.items()} == {"a": 2, "b": 1}
    assert found.classes["b"].low is None
    assert found.classes["b"].note
    assert found.classes["a"].value == pytest.approx(2.5)


def test_images_of_one_patient_count_as_one_for_the_interval():
    kinds, names = [0, 1, 1, 1], ["lung"] * 4
    alone = scored(Told(), shown(*kinds * 10), names * 10)
    groups = [f"p{k % 4}" for k in range(40)]
    grouped = scored(Told(), shown(*kinds * 10), names * 10, groups=groups)
    assert grouped.score.high - grouped.score.low > 1.5 * (alone.score.high - alone.score.low)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_captions(count):
    with pytest.raises(VesaliusError, match=f"{count} images for 2 captions"):
        scored(Told(), shown(*[0] * count), ["lung", "retina"])


def test_something_else_than_a_clip_is_refused(tiny_sd, tmp_path):
    with pytest.raises(VesaliusError, match="hub's cache"):
        load_clip("nobody/no-such-clip")
    with pytest.raises(VesaliusError, match="cannot be loaded"):
        load_clip(str(tmp_path))
    with pytest.raises(VesaliusError):
        load_clip(str(tiny_sd / "text_encoder"))


def open_clip_folder(folder, *, safe=True):
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    about = {
        "model_cfg": {
            "embed_dim": 8,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8,
                           "patch_size": 8},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2,
                         "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }  # fmt: skip
    torch.manual_seed(0)
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    model = open_clip.CLIP(**about["model_cfg"])
    if safe:
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model.eval()


@torch.no_grad()
def test_a_model_in_open_clip_s_layout(tmp_path):
    model = open_clip_folder(tmp_path)
    clip = load_clip(str(tmp_path))
    import open_clip

    way = open_clip.image_transform(32, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = torch.stack([way(Image.fromarray(image)) for image in pictures()])
    image, text, _ = model(pixels, open_clip.get_tokenizer("ViT-B-32")(CAPTIONS))
    ours = clip.images(pictures()) @ clip.texts(CAPTIONS).T
    torch.testing.assert_close(ours, image @ text.T, atol=1e-5, rtol=0)


def test_pickled_weights_of_open_clip_are_refused(tmp_path):
    open_clip_folder(tmp_path, safe=False)
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"\x80\x04")
    (tmp_path / "another.safetensors").write_bytes(b"")  # beside which open_clip reads the pickle
    with pytest.raises(VesaliusError, match="pickles are refused"):
        load_clip(str(tmp_path))
