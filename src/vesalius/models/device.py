"""Which device and which number formats a model runs in."""

from dataclasses import dataclass

import torch

from vesalius.errors import VesaliusError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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
    """Whether this CPU multiplies bfloat16 in hardware (about twice as fast as float32)."""
    # Private names of torch, hence the guard: without them we merely stay in float32.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


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
