"""Loading refuses what is broken, by name; what is saved loads again, here and in diffusers."""

import errno
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from vesalius.core.tensors import read_header
from vesalius.errors import VesaliusError
from vesalius.models import device as devices
from vesalius.models.folder import check_folder, folder_hash
from vesalius.models.generator import load_generator
from vesalius.models.locate import locate
from vesalius.models.text import encode_prompts

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny_flow, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_flow, tmp_path / "model"))


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_a_folder_written_by_diffusers_loads_unchanged(folder, request):
    path = request.getfixturevalue(folder)
    generator = load_generator(path, "cpu", "float32")
    saved = {k: v for k, v in read_header(path / UNET).items() if k != "__metadata__"}
    assert {k: list(v.shape) for k, v in generator.unet.state_dict().items()} == {
        k: v["shape"] for k, v in saved.items()
    }
    assert generator.name == path.name
    assert generator.native_size == (32, 32)
    assert generator.size_multiple == 16
    assert not generator.unet.training


def test_save_and_load_round_trip(tiny_flow, tmp_path):
    first = load_generator(tiny_flow, "cpu", "float32")
    second = load_generator(first.save(tmp_path / "again"), "cpu", "float32")
    for role in ("vae", "unet", "text_encoder"):
        ours, theirs = getattr(first, role).state_dict(), getattr(second, role).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert second.settings == first.settings
    assert dict(second.scheduler.config) == dict(first.scheduler.config)
    assert not [p for p in (tmp_path / "again").rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    assert [p.name for p in tmp_path.iterdir()] == ["again"]


def test_a_safety_checker_in_the_folder_is_ignored(copy):
    edit_json(
        copy / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    assert load_generator(copy, "cpu", "float32").name == "model"


def test_half_precision_weights_alone_are_enough(copy):
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.fp16.safetensors")
    assert load_generator(copy, "cpu", "float32").dtype == torch.float32


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "unet/config.json",
        UNET,
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_half_written_folder_is_refused_naming_what_is_missing(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(VesaliusError, match=f"not a whole model: {missing} is missing"):
        check_folder(copy)


def write_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": 1}))


def test_files_disguised_as_safetensors_are_refused(copy):
    path = copy / UNET
    whole = path.read_bytes()
    path.unlink()
    write_zip(path)
    with pytest.raises(VesaliusError, match=r"not a safetensors file .*zip archive"):
        check_folder(copy)
    path.write_bytes(pickle.dumps({"weight": list(range(1000))}))
    with pytest.raises(VesaliusError, match=r"not a safetensors file .*pickle"):
        check_folder(copy)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(VesaliusError, match="git lfs pull"):
        check_folder(copy)
    path.write_bytes(b"")
    with pytest.raises(VesaliusError, match="empty"):
        check_folder(copy)
    path.write_bytes(whole[:-10])
    with pytest.raises(VesaliusError, match="corrupt: its header promises"):
        check_folder(copy)
    path.write_bytes(whole[:8] + b"x" * (len(whole) - 8))
    with pytest.raises(VesaliusError, match="header is corrupt"):
        check_folder(copy)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(VesaliusError, match="cut short or corrupt"):
        check_folder(copy)


def test_pickled_weights_are_refused_and_never_read(copy):
    (copy / UNET).unlink()
    (copy / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(VesaliusError, match=r"pickle is refused .* convert it to safetensors"):
        load_generator(copy, "cpu")


def test_code_from_elsewhere_is_refused(copy):
    edit_json(copy / "model_index.json", unet=["my_package.models", "MyUNet"])
    with pytest.raises(VesaliusError, match="code outside diffusers is not run"):
        load_generator(copy, "cpu")
    edit_json(copy / "model_index.json", unet=["diffusers", "StableDiffusionPipeline"])
    with pytest.raises(VesaliusError, match="its unet is a StableDiffusionPipeline"):
        load_generator(copy, "cpu")


def test_other_kinds_of_models_are_refused(copy):
    index = copy / "model_index.json"
    edit_json(index, text_encoder_2=["transformers", "CLIPTextModelWithProjection"])
    with pytest.raises(VesaliusError, match="text_encoder_2"):
        load_generator(copy, "cpu")


def test_missing_weights_are_an_error_and_not_noise(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / UNET)
    del weights["conv_in.weight"]
    save_file(weights, copy / UNET)
    with pytest.raises(VesaliusError, match=r"lacks 1 of its weights, such as conv_in.weight"):
        load_generator(copy, "cpu")


def test_a_shard_outside_the_folder_is_refused(copy):
    (copy / UNET).rename(copy / "elsewhere.safetensors")
    index = {"weight_map": {"conv_in.weight": "../elsewhere.safetensors"}}
    (copy / (UNET + ".index.json")).write_text(json.dumps(index))
    with pytest.raises(VesaliusError, match="not a file beside it"):
        check_folder(copy)


def test_unknown_models_are_told_apart(tmp_path):
    with pytest.raises(VesaliusError, match="unknown model 'nonsense': bundled models"):
        locate("nonsense")
    with pytest.raises(VesaliusError, match=r"there is no folder \./missing"):
        locate("./missing")
    (tmp_path / "file").touch()
    with pytest.raises(VesaliusError, match="is a file"):
        locate(tmp_path / "file")


def test_a_hub_id_without_a_network_is_an_error_that_helps(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(repo, local_files_only=False, **_):
        raise LocalEntryNotFoundError("x") if local_files_only else ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(VesaliusError, match="run `hf download nobody/nothing`"):
        locate("nobody/nothing")


def test_a_hub_model_in_the_cache_is_not_asked_for_again(monkeypatch, tiny_flow):
    import huggingface_hub

    def cached_only(repo, local_files_only=False, **_):
        assert local_files_only, "the hub was contacted"
        return str(tiny_flow)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached_only)
    assert locate("somebody/something") == tiny_flow


def test_the_hash_follows_the_content_of_the_model_and_nothing_else(copy):
    first = folder_hash(copy)
    assert len(first) == 16
    (copy / "README.md").write_text("hello")
    assert folder_hash(copy) == first
    edit_json(copy / "scheduler/scheduler_config.json", solver_order=1)
    assert folder_hash(copy) != first


def test_formats(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(devices, "cpu_has_fast_bfloat16", lambda: True)
    assert devices.pick_formats(cpu).denoiser == torch.bfloat16
    assert devices.pick_formats(cpu).autoencoder == torch.float32
    monkeypatch.setattr(devices, "cpu_has_fast_bfloat16", lambda: False)
    assert devices.pick_formats(cpu).denoiser == torch.float32
    assert devices.pick_formats(cuda).denoiser == torch.float16
    assert devices.pick_formats(cuda, bundled=True).denoiser == torch.bfloat16
    assert devices.pick_formats(cuda, bundled=True).autoencoder == torch.float32
    with pytest.raises(VesaliusError, match="not a dtype"):
        devices.pick_formats(cpu, "int8")
    with pytest.raises(VesaliusError, match="not a device"):
        devices.pick_device("toaster")
    with pytest.raises(VesaliusError, match="no device"):
        devices.pick_device("cuda:99")


def test_a_saved_model_does_not_tell_where_it_came_from(tiny_flow, tmp_path):
    saved = load_generator(tiny_flow, "cpu", "float32").save(tmp_path / "saved", half=True)
    for path in saved.rglob("*.json"):
        assert str(tiny_flow.parent) not in path.read_text(), path
    again = load_generator(saved, "cpu", "float32")
    before = load_generator(tiny_flow, "cpu", "float32")
    for a, b in zip(again.unet.parameters(), before.unet.parameters(), strict=True):
        assert (a - b).abs().max() <= 1e-3 * b.abs().max()


def test_a_pooling_layer_that_no_file_has_is_not_drawn_and_saved(tiny_flow, tmp_path):
    generator = load_generator(str(tiny_flow), "cpu", "float32")
    generator.text_encoder.pooler = None
    first = generator.save(tmp_path / "first")
    hashes = {
        folder_hash(load_generator(str(first), "cpu", "float32").save(tmp_path / name))
        for name in ("second", "third")
    }
    assert hashes == {folder_hash(first)}


def test_what_would_change_a_model_unseen_by_its_hash_is_refused(copy):
    (copy / "text_encoder/adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(VesaliusError, match="lies in a model"):
        check_folder(copy)
    (copy / "text_encoder/adapter_model.safetensors").unlink()
    (copy / (UNET + ".index.json")).write_text('{"weight_map": {}}')
    with pytest.raises(VesaliusError, match="delete the one that is not meant"):
        check_folder(copy)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("unet/config.json", {"layers_per_block": 1_000_000}, "layers_per_block is larger"),
        ("unet/config.json", {"block_out_channels": [8] * 9999}, "block_out_channels is larger"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**6}, "num_hidden_layers is larger"),
        ("text_encoder/config.json", {"intermediate_size": 900_000}, "its files have"),
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilom", "use_flow_sigmas": False},
         "'epsilom' predicts is not known"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_meant_is_one_line(copy, file, changes, message):
    edit_json(copy / file, **changes)
    with pytest.raises(VesaliusError, match=message):
        load_generator(copy, "cpu", "float32")


def test_an_index_whose_map_is_a_list_and_an_unknown_user_are_one_line(copy):
    (copy / UNET).unlink()
    (copy / (UNET + ".index.json")).write_text('{"weight_map": ["a"]}')
    with pytest.raises(VesaliusError, match="names no files in its weight_map"):
        check_folder(copy)
    with pytest.raises(VesaliusError, match="no such user"):
        locate("~nobody-of-this-name/model")


def test_what_is_saved_does_not_tell_which_texts_were_encoded_before(tiny_flow, tmp_path):
    generator = load_generator(tiny_flow, "cpu", "float32")
    generator.save(tmp_path / "before")
    encode_prompts(generator.tokenizer, generator.text_encoder, ["a nodule"])
    generator.save(tmp_path / "after")
    files = [path for path in (tmp_path / "before").rglob("*") if path.is_file()]
    for path in files:
        other = tmp_path / "after" / path.relative_to(tmp_path / "before")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_a_full_disk_is_one_line_as_a_generator_is_saved(tiny_flow, tmp_path, monkeypatch):
    generator = load_generator(tiny_flow, "cpu", "float32")

    def full(*arguments, **options):
        raise SafetensorError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")

    monkeypatch.setattr(type(generator.unet), "save_pretrained", full)
    with pytest.raises(VesaliusError, match=r"the disk is full: free \d+ MB"):
        generator.save(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_an_interruption_that_diffusers_takes_for_damage_is_one(tiny_flow, monkeypatch):
    def stopped(*arguments, **options):
        try:
            raise KeyboardInterrupt
        except BaseException:
            raise OSError("unable to load weights")  # noqa: B904 as diffusers does

    monkeypatch.setattr("diffusers.AutoencoderTiny.from_pretrained", stopped)
    with pytest.raises(KeyboardInterrupt):
        load_generator(tiny_flow, "cpu", "float32")
