"""A plugin of pytest, `-p benchmarks.pretended`: the CPU answers to the name of cuda.

Tests marked gpu then run on any machine, and so does the package's code for a GPU that they call, as
far as Python goes: a wrong name or argument is found before a GPU is there. What only a GPU does
(kernels, memory, waiting for it) stays untested.
"""

import os
import tempfile
from collections.abc import Generator as Steps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode


class OnCpu(TorchFunctionMode):
    """Sends to the CPU whatever is asked for on a CUDA device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        if func is torch.device:  # the name stays, so that code asks as it would on a GPU
            return func(*args, **(kwargs or {}))
        named = {name: here(value) for name, value in (kwargs or {}).items()}
        return func(*map(here, args), **named)


def here(value: Any) -> Any:
    """`value`, or the CPU if it names a CUDA device."""
    names_cuda = isinstance(value, str | torch.device) and str(value).startswith("cuda")
    return "cpu" if names_cuda else value


class CpuGenerator(torch.Generator):
    """Draws on the CPU, whatever device it is made for."""

    def __new__(cls, device: Any = "cpu") -> "CpuGenerator":
        return super().__new__(cls, here(device))  # pyright: ignore[reportCallIssue]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Steps[None, Any, Any]:
    """Each test with a device that is none, and with an `nvidia-smi` that reports 100 W."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        meter = Path(folder) / "nvidia-smi"
        meter.write_text("#!/bin/sh\nwhile echo 100.0; do sleep 0.05; done\n")
        meter.chmod(0o755)
        patch.setenv("PATH", folder + os.pathsep + os.environ["PATH"])
        patch.setattr(torch, "Generator", CpuGenerator)
        patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        patch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
        patch.setattr(torch.cuda, "get_device_name", lambda device=None: "pretended")
        patch.setattr(
            torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="none")
        )
        with OnCpu():
            return (yield)
