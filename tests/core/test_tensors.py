"""Files with notes are the same whenever they hold the same, and the library reads them."""

import os
import subprocess
import sys

import torch
from safetensors import safe_open

from vesalius.core.tensors import read_header, save_tensors

NOTES = {name: f"note {name} é" for name in "badcfe"} | {"format": "pt"}
WRITE = """
import sys, torch
from pathlib import Path
from vesalius.models.adapters import save_lora
halves = {f"unet.to_q.lora_{half}.weight": torch.ones(2, 2) for half in "AB"}
about = {"alpha": 4, "base": "tiny", "licence": "CC0-1.0", "captions": ["a", "b"], "size": 64}
save_lora(Path(sys.argv[1]), halves, about)
"""


def test_the_library_reads_what_is_written(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 5, dtype=torch.bfloat16)[:, ::2]}
    save_tensors(tmp_path / "x.safetensors", tensors, NOTES)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == NOTES
        assert all(torch.equal(file.get_tensor(name), tensors[name]) for name in tensors)
    assert list(read_header(tmp_path / "x.safetensors")["__metadata__"]) == sorted(NOTES)


def test_an_adapter_has_the_same_hash_in_every_process(tmp_path):
    contents = set()
    for seed in ("1", "2"):
        path = tmp_path / seed / "lora.safetensors"
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", WRITE, path], check=True, env=environment)
        contents.add(path.read_bytes())
    assert len(contents) == 1
