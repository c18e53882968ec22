"""The whole of training from scratch, on tiny models and two tiny sets."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from tests.small import stock, stock_image, write_taesd
from transformers import BertModel, BertTokenizer

import vesalius
from vesalius.config import load_recipe
from vesalius.errors import VesaliusError
from vesalius.models.generator import load_network
from vesalius.models.text import encode_prompts
from vesalius.models.text_encoder import load_text_encoder
from vesalius.pairs.table import read_pairs
from vesalius.train.methods.autoencoder import load_tiny, psnr
from vesalius.train.methods.scratch import with_sample_size
from vesalius.train.run import estimate, train_recipe
from vesalius.train.session import Session
from vesalius.train.tiny import build_tiny


@pytest.fixture(scope="module")
def trained(tiny_recipe, tiny_pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return train_recipe(load_recipe(str(tiny_recipe)), tiny_pairs, out).folder


def test_the_result_generates_here_and_in_stock_diffusers(trained):
    sample = vesalius.load(str(trained), "cpu", "float32").generate("chest x-ray, nodule", seed=3)[
        0
    ]
    assert sample.image.size == (32, 32)
    assert sample.request.steps == 3
    pipeline = stock(trained)
    assert pipeline.tokenizer.model_max_length == 12
    assert pipeline.text_encoder.config.use_attention_mask
    difference = np.abs(stock_image(pipeline).astype(int) - np.asarray(sample.image, int))
    assert difference.max() <= 2


def test_the_text_encoder_s_words_are_cut_to_those_that_are_used(tiny_recipe, tiny_pairs, tmp_path):
    source = load_recipe(str(tiny_recipe)).text_encoder.source
    known = BertTokenizer.from_pretrained(source).get_vocab()
    pieces = [*sorted(known, key=known.__getitem__), "zebra", "quartz"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "text")
    model = BertModel.from_pretrained(source)
    model.resize_token_embeddings(len(pieces))
    model.save_pretrained(tmp_path / "text")
    stages = [f"{name}.optimisation.seen_images=4" for name in ("autoencoder", "denoiser")]
    text = [f"text_encoder.source={tmp_path / 'text'}", "text_encoder.vocabulary=90"]
    recipe = load_recipe(str(tiny_recipe), [*text, *stages])
    assert estimate(recipe, tiny_pairs).frozen.endswith("of its words 90")
    result = train_recipe(recipe, tiny_pairs, tmp_path / "run").folder
    pipeline = StableDiffusionPipeline.from_pretrained(result, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    tokenizer, encoder = load_text_encoder(str(tmp_path / "text"), 12)
    rows = pipeline.text_encoder.get_input_embeddings().num_embeddings
    assert len(pipeline.tokenizer) == rows == pipeline.text_encoder.config.vocab_size
    assert rows == len(known)  # letters, and words that the captions or dictionaries use
    assert tokenizer.tokenize("zebra") == ["zebra"]
    assert pipeline.tokenizer.tokenize("zebra") == ["z", "##e", "##b", "##r", "##a"]
    prompts = ["chest x-ray, nodule", "retina of the left eye effusion"]
    ours = pipeline.encode_prompt(prompts, "cpu", 1, False)[0]
    assert torch.equal(ours, encode_prompts(tokenizer, encoder.half().float(), prompts))
    drawn = pipeline(prompts[0], num_inference_steps=1, height=32, width=32).images[0]
    assert drawn.size == (32, 32)


def test_what_its_text_encoder_has_learned_from_is_listed_with_the_result(
    tiny_recipe, tiny_pairs, tmp_path
):
    source = load_recipe(str(tiny_recipe)).text_encoder.source
    shutil.copytree(source, tmp_path / "before" / "text_encoder")
    rows = [{"sha1": "11", "group": "p1", "source": "elsewhere"}]
    (tmp_path / "before" / "training_rows.json").write_text(json.dumps(rows))
    stages = [f"{name}.optimisation.seen_images=4" for name in ("autoencoder", "denoiser")]
    text = f"text_encoder.source={tmp_path / 'before' / 'text_encoder'}"
    train_recipe(load_recipe(str(tiny_recipe), [text, *stages]), tiny_pairs, tmp_path / "run")
    seen = json.loads((tmp_path / "run" / "training_rows.json").read_text())
    pairs = read_pairs(tiny_pairs)
    own = {pairs.column("sha1")[row] for row in pairs.rows("train")}
    assert {row["sha1"] for row in seen} == own | {"11"}


def test_a_denoiser_goes_on_with_its_own_noise_and_text_encoder_alone(
    tiny_recipe, tiny_pairs, tmp_path
):
    source, text = load_recipe(str(tiny_recipe)).text_encoder.source, tmp_path / "text"
    shutil.copytree(source, text)
    stages = [f"{name}.optimisation.seen_images=4" for name in ("autoencoder", "denoiser")]
    usual, go_on = [f"text_encoder.source={text}", *stages], Session(resume=True)

    def run(*more, session=go_on):
        recipe = load_recipe(str(tiny_recipe), [*usual, *more])
        train_recipe(recipe, tiny_pairs, tmp_path / "run", session=session)

    run(session=Session())
    noise = [f"sampler.scheduler.{x}" for x in ("prediction_type=epsilon", "use_flow_sigmas=false")]
    with pytest.raises(VesaliusError, match=r"noise .* flow, encoder .*, now it is epsilon"):
        run(*noise)
    run("sampler.scheduler.solver_order=1", "autoencoder.optimisation.keep_checkpoints=1")
    model = BertModel.from_pretrained(text)
    with torch.no_grad():
        next(model.encoder.parameters()).add_(1)
    model.save_pretrained(text)
    with pytest.raises(VesaliusError, match=r"noise and frozen networks .* text encoder"):
        run()


def test_everything_is_half_precision_safetensors(trained):
    from safetensors import safe_open

    files = list(trained.rglob("*.safetensors"))
    assert len(files) == 3
    for path in files:
        with safe_open(path, "pt") as file:
            dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        assert dtypes <= {"F16", "I64"}, path
    assert not [p for p in trained.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]


def test_the_command_says_what_it_would_do_and_does_nothing(
    run_cli, tiny_recipe, tiny_pairs, tmp_path
):
    out = tmp_path / "run"
    options = ["--pairs", tiny_pairs, "--out", out, "--dry-run", "--device", "cpu"]
    code, said, _ = run_cli("train", tiny_recipe, *options)
    assert code == 0
    assert "8 steps of 4" in said
    assert not out.exists()


def test_a_dry_run_counts_rows_and_views(tiny_recipe, tiny_pairs):
    lines = estimate(load_recipe(str(tiny_recipe)), tiny_pairs).lines()
    assert lines["pairs"].startswith(("40 to train on", "39 to train on", "38 to train on"))
    assert "denoiser" in lines


def test_bad_names_in_a_recipe_are_told(tiny_recipe, tiny_pairs, tmp_path):
    for override, told in (
        ("sampler.scheduler.class=Nothing", "scheduler"),
        ("autoencoder.kind=Nothing", "autoencoder"),
        (f"autoencoder.init={tmp_path}/taesd", "taesd_encoder"),
        (f"text_encoder.source={tmp_path}/none", "text encoder"),
    ):
        with pytest.raises(VesaliusError, match=told):
            train_recipe(load_recipe(str(tiny_recipe), [override]), tiny_pairs, tmp_path / "run")


def test_published_taesd_files_load_layer_for_layer(tmp_path):
    torch.manual_seed(0)
    model, other = AutoencoderTiny(), AutoencoderTiny()
    load_tiny(other, write_taesd(model, tmp_path))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_psnr_of_a_known_error():
    x = torch.zeros(1, 3, 4, 4)
    assert psnr(x, x + 0.2).item() == pytest.approx(20, abs=1e-4)  # 0.1 of the range: 20 dB


def test_a_run_computes_in_what_is_faster_on_the_device(
    tiny_recipe, tiny_pairs, tmp_path, monkeypatch
):
    import yaml

    from vesalius.train import resuming

    faster = ["bfloat16"]
    monkeypatch.setattr(resuming, "pick_precision", lambda device: faster[-1])
    stages = ("autoencoder", "denoiser")
    auto = [f"{stage}.optimisation.precision=auto" for stage in stages]
    out = tmp_path / "run"

    def told():
        recipe = yaml.safe_load((out / "recipe.yaml").read_text())
        return [recipe[stage]["optimisation"]["precision"] for stage in stages]

    train_recipe(load_recipe(str(tiny_recipe), auto), tiny_pairs, out)
    assert told() == ["bfloat16"] * 2
    faster.append("float32")  # on another machine
    longer = [*auto, "denoiser.optimisation.seen_images=40"]
    train_recipe(
        load_recipe(str(tiny_recipe), longer), tiny_pairs, out, session=Session(resume=True)
    )
    assert told() == ["bfloat16"] * 2


def test_the_denoiser_s_size_follows_that_of_the_images(tiny_recipe, tiny_flow):
    recipe = load_recipe(str(tiny_recipe))
    assert with_sample_size(recipe) == recipe
    assert with_sample_size(load_recipe("mini", ["size=64"])).denoiser.arguments["sample_size"] == 8
    frozen = load_recipe("mini", [f"autoencoder={tiny_flow}"])
    assert with_sample_size(frozen).denoiser.arguments["sample_size"] == 32
    for override, told in (
        ("size=64", "sample_size is 4, and .* 8 x 8"),
        ("size=36", "of 8 pixel"),
    ):
        with pytest.raises(VesaliusError, match=told):
            with_sample_size(load_recipe(str(tiny_recipe), [override]))
    with pytest.raises(VesaliusError, match="not on this machine"):
        with_sample_size(load_recipe("mini", ["autoencoder=no/body"]), lambda name: None)


@pytest.mark.parametrize("crop", [40, 20])
def test_a_crop_that_images_do_not_have_is_told(crop, tiny_recipe, tiny_pairs, tmp_path):
    recipe = load_recipe(str(tiny_recipe), [f"autoencoder.crop={crop}"])
    for run in (
        lambda: estimate(recipe, tiny_pairs),
        lambda: train_recipe(recipe, tiny_pairs, tmp_path),
    ):
        with pytest.raises(VesaliusError, match="a multiple of 8 that is not larger"):
            run()


def test_a_saved_autoencoder_is_loaded_without_a_word(tmp_path, capfd):
    build_tiny({}).save_pretrained(tmp_path)
    load_network(AutoencoderTiny, tmp_path)
    assert capfd.readouterr().err == ""


def test_a_coarsest_level_of_one_cell_is_counted(tiny_recipe, tiny_pairs, tmp_path):
    """Group normalisation refuses one image there, where a group is one channel."""
    shape = ["denoiser.arguments.norm_num_groups=8", "size=16", "denoiser.arguments.sample_size=2"]
    stages = [f"{name}.optimisation.seen_images=4" for name in ("autoencoder", "denoiser")]
    recipe = load_recipe(str(tiny_recipe), [*shape, "autoencoder.crop=16", *stages])
    assert "about" in estimate(recipe, tiny_pairs).time
    train_recipe(recipe, tiny_pairs, tmp_path)
