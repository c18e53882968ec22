"""Which device and which number formats a model runs in."""

import math
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional as F

from vesalius.errors import VesaliusError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TIMED_STEPS = 5  # in each format
HOPELESS = 5.0  # where bfloat16 is so many times slower, no more are timed


@dataclass(frozen=True)
class Formats:
    """The dtype of each network of a generator."""

    denoiser: torch.dtype
    text_encoder: torch.dtype
    autoencoder: torch.dtype


def pick_device(device: str = "auto") -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU. Raises VesaliusError if it is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise VesaliusError(
            f"{device!r} is not a device: use auto, cpu, cuda, cuda:1 or mps"
        ) from error
    missing_cuda = chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()
    missing_mps = chosen.type == "mps" and not torch.backends.mps.is_available()
    if missing_cuda or missing_mps:
        raise VesaliusError(f"this machine has no device {device!r}: use --device auto")
    if chosen.type not in ("cuda", "mps", "cpu"):
        raise VesaliusError(f"{device!r} is not supported: use auto, cpu, cuda or mps")
    return chosen


def cpu_has_fast_bfloat16() -> bool:
    """Whether this CPU is faster with bfloat16 than with float32."""
    return (cpu_bfloat16_speed() or 0) > 1


@lru_cache(maxsize=1)
def cpu_bfloat16_speed() -> float | None:
    """How many times faster than float32 bfloat16 is on this CPU: measured once a process.

    None where the CPU has no instructions for it. A short step must show that they help: a torch
    that makes no use of them is tens of times slower, and AVX512-BF16 alone may be no faster than
    float32. The step costs about a tenth of a second.
    """
    if not (cpu_multiplies_bfloat16() and torch.backends.mkldnn.is_available()):
        return None
    plain, rounded = time_cpu_steps()
    return plain / rounded


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 (AVX512-BF16 or AMX)."""
    # Private names of torch, hence the guard: without them we merely stay in float32.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def time_cpu_steps() -> tuple[float, float]:
    """A core's seconds for a small denoiser's step in float32 and in bfloat16.

    Two convolutions and a linear layer, forward and backward. The least of a few counts, and of each
    the time that this thread had a core: what else the machine does must not change which format is
    faster. AMX takes about 0.6 of the time of float32, AVX512-BF16 alone 1.5. Draws no random number.
    """
    width, side = 96, 16

    def values(*shape: int) -> torch.Tensor:
        return torch.linspace(-0.1, 0.1, math.prod(shape)).view(shape)

    def step(dtype: torch.dtype) -> float:
        started = time.thread_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            h = F.silu(F.conv2d(x, kernel, padding=1))
            h = F.conv2d(h, kernel, padding=1)
            h = F.linear(h.permute(0, 2, 3, 1).flatten(1, 2), matrix)
        torch.autograd.grad(h.float().square().mean(), (kernel, matrix))
        return time.thread_time() - started

    plain = rounded = math.inf
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # all of a step is then done, and timed, in this thread
    try:
        with torch.inference_mode(False), torch.enable_grad():
            x = values(2, width, side, side).contiguous(memory_format=torch.channels_last)
            kernel = values(width, width, 3, 3).requires_grad_()
            matrix = values(4 * width, width).requires_grad_()
            for _ in range(TIMED_STEPS):  # the first makes the kernels, and is never the least
                plain = min(plain, step(torch.float32))
                rounded = min(rounded, step(torch.bfloat16))
                if rounded > HOPELESS * plain:
                    break
    finally:
        torch.set_num_threads(threads)
    return plain, rounded


def pick_precision(device: torch.device) -> str:
    """The faster of `bfloat16` and `float32` to train in on `device`, by its name.

    On CUDA by what the card multiplies natively, on a CPU by trial; MPS stays in float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and cpu_has_fast_bfloat16()
    return "bfloat16" if fast else "float32"


def precision_reason(device: torch.device) -> str:
    """Why `pick_precision` picks what it does on `device`, in words."""
    if device.type == "mps":
        return "as always on an Apple GPU"
    if device.type == "cuda":
        has = "multiplies" if pick_precision(device) == "bfloat16" else "does not multiply"
        return f"as {device} {has} bfloat16 itself"
    speed = cpu_bfloat16_speed()
    if speed is None:
        return "as this CPU has no instructions for bfloat16"
    return (
        f"as bfloat16 takes {1 / speed:.2g} times as long as float32 on this CPU, by a short trial"
    )


def format_reason(device: torch.device, denoiser: str) -> str:
    """Why `pick_formats` picks what it does for a denoiser on `device`, in words."""
    if device.type == "cpu":
        return precision_reason(device)
    return (
        "as the bundled models were trained" if denoiser == "bfloat16" else f"as usual on {device}"
    )


def pick_formats(device: torch.device, dtype: str = "auto", *, bundled: bool = False) -> Formats:
    """The formats for `device`; `dtype` is auto, float32, float16 or bfloat16.

    Published Stable Diffusion models are tried and safe in float16; ours were trained in bfloat16
    and are safe in that. On a CPU only the denoiser, where all the time goes, leaves float32.
    The autoencoder never runs in bfloat16: its 8 significant bits would show as bands.
    """
    if dtype not in ("auto", *DTYPES):
        raise VesaliusError(f"{dtype!r} is not a dtype: use auto, {', '.join(DTYPES)}")
    if dtype != "auto":
        denoiser = DTYPES[dtype]
    elif device.type == "cuda":
        denoiser = torch.bfloat16 if bundled else torch.float16
    elif device.type == "mps":
        denoiser = torch.float16
    else:
        denoiser = torch.bfloat16 if cpu_has_fast_bfloat16() else torch.float32
    if device.type == "cpu":
        return Formats(denoiser, torch.float32, torch.float32)
    decode = torch.float32 if denoiser == torch.bfloat16 else denoiser
    return Formats(denoiser, denoiser, decode)
