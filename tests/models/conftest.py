"""A whole CLIP in small, for the tests of text encoders and of towers."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_clip(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP, text and image tower, with the tokenizer and text sizes of `tiny_sd`."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(1)
    text = CLIPTextConfig.from_pretrained(tiny_sd / "text_encoder")
    vision = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    sizes = {"text_config": text.to_dict(), "vision_config": vision.to_dict()}
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(**sizes, projection_dim=6)).save_pretrained(folder)
    shutil.copytree(tiny_sd / "tokenizer", folder, dirs_exist_ok=True)
    return folder
