"""`vesalius generate --adapter` and `vesalius adapter`: what a user gets, and one line if not."""

import pytest
import torch

from vesalius.core.manifest import read_manifest
from vesalius.images.provenance import read_provenance
from vesalius.models.adapters import add_lora, lora_tensors, save_lora
from vesalius.models.embeddings import save_embedding
from vesalius.models.generator import load_generator


@pytest.fixture
def adapters(tiny_flow, tmp_path, monkeypatch):
    """In the working folder: a LoRA `blood`, embeddings `tb.safetensors` and `wide.safetensors`."""
    monkeypatch.chdir(tmp_path)
    parts = load_generator(tiny_flow, "cpu", "float32")
    for parameter in add_lora(parts.unet, parts.text_encoder, 2, 6.0):
        torch.nn.init.normal_(parameter)
    save_lora("blood", lora_tensors(parts.unet, parts.text_encoder), {"alpha": 6.0})
    save_embedding("tb.safetensors", "<tb>", torch.randn(2, 8))
    save_embedding("wide.safetensors", "<wide>", torch.randn(2, 768))
    return tmp_path


def warnings_of(err: str) -> list[str]:
    """The lines of stderr but the one on precision, which is on every automatic one."""
    return [line for line in err.splitlines() if not line.startswith("precision: ")]


def make(run_cli, model, out, *arguments):
    common = ("--model", model, "--steps", 2, "--size", 32, "--out", out)
    return run_cli("generate", "a <tb> lung", *common, *arguments)


def test_images_name_their_adapters(run_cli, adapters, tiny_flow):
    assert make(run_cli, tiny_flow, "plain")[0] == 0
    both = ("--adapter", "blood:0.5", "--adapter", "tb.safetensors")
    code, out, err = make(run_cli, tiny_flow, "adapted", *both)
    assert (code, out) == (0, "1 synthetic image in adapted: see contact-sheet.png\n")
    assert warnings_of(err) == []
    (plain,), (row,) = (read_manifest(f"{name}/manifest.jsonl") for name in ("plain", "adapted"))
    assert plain["adapters"] == ""
    blood, tb = row["adapters"].split(" + ")
    assert blood.startswith("blood (") and blood.endswith(") * 0.5")
    assert tb.startswith("tb (") and tb.endswith(") * 1")
    assert row["sha256"] != plain["sha256"]
    for image in ("00000.png", "contact-sheet.png"):
        assert read_provenance(f"adapted/{image}")["adapters"] == row["adapters"]


def test_an_embedding_that_no_prompt_names_is_warned_of(run_cli, adapters, tiny_flow):
    arguments = ("--model", tiny_flow, "--steps", 1, "--adapter", "tb.safetensors")
    code, _, err = run_cli("generate", "lung", *arguments)
    assert code == 0
    assert warnings_of(err) == ["warning: adapter tb has no effect: write <tb> in the prompt"]


def test_an_embedding_in_the_negative_prompt_has_an_effect(run_cli, adapters, tiny_flow):
    arguments = ("--model", tiny_flow, "--adapter", "tb.safetensors", "--negative", "<tb>")
    assert warnings_of(run_cli("generate", "lung", *arguments)[2]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["blood:much"], "weight 'much' is not a number"),
        (["nothing:0.5"], "there is no adapter nothing"),
        (["tb.safetensors:0.5"], "has no weight: leave :0.5 out"),
        (["wide.safetensors"], "width 768 and the text encoder takes 8"),
        (["tb.safetensors", "tb.safetensors"], "has the token <tb> already"),
    ],
)
def test_bad_adapters_are_one_line(run_cli, adapters, tiny_flow, arguments, message):
    flat = [part for name in arguments for part in ("--adapter", name)]
    code, out, err = make(run_cli, tiny_flow, "none", *flat)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (adapters / "none").exists()


def test_conversion_and_back_makes_the_same_images(run_cli, adapters, tiny_flow):
    lora, embedding = ("--adapter", "blood"), ("--adapter", "tb.safetensors")
    make(run_cli, tiny_flow, "one", *lora, *embedding)
    for name in ("blood", "tb.safetensors"):
        code, out, _ = run_cli(
            "adapter", name, "--to", "webui", "--out", f"ui-{name[:2]}.safetensors"
        )
        assert (code, out.split(":")[0]) == (0, f"wrote ui-{name[:2]}.safetensors")
    make(
        run_cli,
        tiny_flow,
        "two",
        "--adapter",
        "ui-bl.safetensors",
        "--adapter",
        "ui-tb.safetensors",
    )
    assert (adapters / "one/00000.png").is_file()
    pixels = [
        torch.frombuffer(bytearray(_raw(adapters / n / "00000.png")), dtype=torch.uint8)
        for n in ("one", "two")
    ]
    assert torch.equal(*pixels)


def _raw(path) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()


def test_a_token_can_be_renamed(run_cli, adapters, tiny_flow):
    renamed = ("--token", "<other>", "--out", "other.safetensors")
    assert run_cli("adapter", "tb.safetensors", *renamed)[0] == 0
    both = ("--adapter", "tb.safetensors", "--adapter", "other.safetensors")
    assert make(run_cli, tiny_flow, "both", *both)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["blood", "--to", "gguf", "--out", "x.safetensors"], "the formats are diffusers, kohya"),
        (["blood", "--out", "x.pt"], "an adapter is a .safetensors file"),
        (["blood", "--out", "tb.safetensors"], "exists already"),
        (["blood", "--token", "<x>", "--out", "x.safetensors"], "has no token"),
        (["tb.safetensors", "--to", "kohya", "--out", "x.safetensors"], "is a textual inversion"),
        (["nothing", "--out", "x.safetensors"], "there is no adapter"),
    ],
)
def test_bad_conversions_are_one_line(run_cli, adapters, arguments, message):
    code, _, err = run_cli("adapter", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (adapters / "x.safetensors").exists()
