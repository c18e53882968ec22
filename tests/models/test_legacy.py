"""The door for .pt files takes tensors in and nothing that runs code."""

import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import export_adapter, read_adapter
from vesalius.models.embeddings import Embedding
from vesalius.models.legacy import read_legacy


class Runs:
    """What a malicious file holds: unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_web_ui_embedding_comes_in_with_its_token(tmp_path):
    vectors = torch.randn(2, 8, requires_grad=True)
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "<tb>"}
    torch.save(content | {"step": 500, "sd_checkpoint": None}, tmp_path / "x.pt")
    out = export_adapter(tmp_path / "x.pt", "diffusers", tmp_path / "x.safetensors")
    embedding = read_adapter(out)
    assert isinstance(embedding, Embedding)
    assert embedding.token == "<tb>"
    assert torch.equal(embedding.vectors, vectors.detach())


def test_elsewhere_pickle_is_refused_and_the_door_named(tmp_path):
    torch.save({"<tb>": torch.ones(2, 8)}, tmp_path / "learned_embeds.bin")
    with pytest.raises(VesaliusError, match="convert it once with `vesalius adapter"):
        read_adapter(tmp_path / "learned_embeds.bin")


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"<tb>": Runs(tmp_path / "ran")}, tmp_path / "bad.pt")
    with pytest.raises(VesaliusError, match="without running code from it"):
        read_legacy(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no adapter"),
        ({}, "holds no adapter"),
        ({"state_dict": {"a": torch.ones(1)}}, "'state_dict' is not a tensor"),
        ({"string_to_param": {}}, "'string_to_param' is not a tensor"),
    ],
)
def test_what_is_no_adapter_is_told(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(VesaliusError, match=message):
        read_legacy(tmp_path / "x.pt")


def test_a_torn_file_is_told(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:300])
    with pytest.raises(VesaliusError, match="not whole"):
        read_legacy(tmp_path / "x.pt")
