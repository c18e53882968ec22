"""A generator: the five parts of a latent diffusion model, loaded and saved in diffusers layout.

What is saved here loads in stock `StableDiffusionPipeline.from_pretrained`, and what it saves loads
here: safetensors only, no pickle, no code from the model's folder. A safety checker in the folder
is ignored: it was made for photographs, and blacks out skin and organs.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.memory import keep_freed_memory
from vesalius.core.quiet import quiet
from vesalius.core.stopping import raise_if_asked
from vesalius.core.tensors import read_tensors, save_tensors
from vesalius.core.waiting import no_collecting
from vesalius.errors import VesaliusError, first_line
from vesalius.models.device import Formats, pick_device, pick_formats
from vesalius.models.folder import (
    IGNORED,
    OWN_DENOISER,
    ROLES,
    WEIGHTS,
    cells_multiple,
    check_folder,
    folder_hash,
    missing_weights,
    native_pixels,
    stored_parameters,
    variant,
)
from vesalius.models.locate import bundled_models, locate, read_settings
from vesalius.models.noise_process import process_of


@dataclass
class Generator:
    """The parts of a text-to-image latent diffusion model. Fields are named as in diffusers."""

    vae: Any  # AutoencoderKL or AutoencoderTiny: images (N, 3, H, W) <-> latents (N, C, h, w)
    unet: Any  # the denoiser: (N, C, h, w), timestep, text states (N, T, D) -> (N, C, h, w)
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    name: str = "unsaved"
    model_hash: str = "unsaved"  # of the files it was loaded from
    settings: dict[str, Any] = field(default_factory=dict)  # vesalius.json: steps, guidance, size

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the denoiser; the other networks may keep more precision."""
        return next(self.unet.parameters()).dtype

    @property
    def caption_chunks(self) -> int:
        """How many of the text encoder's windows a caption was given in training."""
        return int(self.settings.get("caption_chunks", 1))

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this: of a patch, or of a cell of the lowest level."""
        return self.vae_factor * cells_multiple(self.unet.config)

    @property
    def native_size(self) -> tuple[int, int]:
        """Width and height in pixels that the denoiser was trained for."""
        return native_pixels(self.unet.config, self.vae_factor)

    def to(self, device: torch.device, formats: Formats) -> "Generator":
        """Move every network to `device` in its format, ready to sample. Returns self."""
        # Channels last is what tensor cores and a CPU's convolutions want: on a CPU it decodes two
        # to three times faster. MPS gains nothing and lacks it in some operations.
        layout = torch.preserve_format if device.type == "mps" else torch.channels_last
        if device.type == "cpu":
            keep_freed_memory()
        with quiet():
            self.unet.to(device, formats.denoiser, memory_format=layout).eval()
            self.vae.to(device, formats.autoencoder, memory_format=layout).eval()
            self.text_encoder.to(device, formats.text_encoder).eval()
        return self

    def save(self, folder: Path | str, *, half: bool = False) -> Path:
        """Write all parts in diffusers layout, whole or not at all; an earlier one is replaced.

        Weights are written in the formats that the networks are in: load with dtype="float32" to
        save without loss. `half` then stores them as float16 and nothing else: the configurations
        keep saying float32, so that a stock pipeline loads every part in one format. (Transformers
        loads a text encoder in the format its configuration names, diffusers the rest in float32.)
        """
        folder = Path(folder)
        needed = sum(part.numel() * part.element_size() for part in self._weights())
        with clear_write_errors(folder, needed), atomic_path(folder) as temporary, quiet():
            for role in ROLES:
                getattr(self, role).save_pretrained(temporary / role)
            _forget_padding(temporary / "tokenizer" / "tokenizer.json")
            for path in temporary.glob("*/config.json"):
                _forget_origin(path)
            for path in temporary.rglob("*.safetensors") if half else ():
                _halve(path)
            _write_json(temporary / "model_index.json", self._index())
            if self.settings:
                _write_json(temporary / "vesalius.json", self.settings)
        return folder

    def _weights(self) -> Iterator[torch.Tensor]:
        for part in (self.vae, self.unet, self.text_encoder):
            yield from part.state_dict().values()

    def _index(self) -> dict[str, Any]:
        from diffusers import __version__ as diffusers_version

        parts = {role: getattr(self, role) for role in ROLES}
        return {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": diffusers_version,
            "_vesalius_version": __version__,
            **{role: [_library(part), type(part).__name__] for role, part in parts.items()},
            **{role: [None, None] for role in IGNORED},
            "requires_safety_checker": False,
        }


@no_collecting()
def load_generator(
    model: str | Path = "mini", device: str = "auto", dtype: str = "auto"
) -> Generator:
    """Load a bundled model, a local folder in diffusers layout, or a hub id.

    Raises VesaliusError for an unknown model, one that is half-written or corrupt, one that would
    need pickle or foreign code, and a device that is not there.
    """
    bundled = str(model) in bundled_models()
    place = pick_device(device)
    formats = pick_formats(place, dtype, bundled=bundled)
    folder = locate(model)
    classes = check_folder(folder)
    with quiet():
        parts = {role: _load_part(folder, role, classes[role]) for role in ROLES}
    generator = Generator(
        **parts,
        name=_name(model, folder),
        model_hash=folder_hash(folder),
        settings=read_settings(folder),
    )
    _check_fit(generator, folder)
    process_of(generator.scheduler)  # what it predicts must be known
    return generator.to(place, formats)


@no_collecting()
def load_skeleton(model: str | Path = "mini") -> Generator:
    """A model as `load_generator` takes it, on the meta device: every shape, and no weight is read.

    Without a pooling layer of the text encoder, which prompts never use.
    Raises VesaliusError as `load_generator` does.
    """
    folder = locate(model)
    classes = check_folder(folder)
    parts = {role: _load_part(folder, role, classes[role]) for role in ("tokenizer", "scheduler")}
    with torch.device("meta"), quiet():
        parts |= {role: _outline(folder, role, classes[role]) for role in WEIGHTS}
    if hasattr(parts["text_encoder"], "pooler"):
        parts["text_encoder"].pooler = None
    generator = Generator(**parts, name=_name(model, folder), settings=read_settings(folder))
    _check_fit(generator, folder)
    return generator


def load_network(kind: Any, folder: Path) -> Any:
    """A network of class `kind` as it was saved into `folder`.

    Raises VesaliusError where weights are missing.
    """
    settings: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    with quiet():
        network, report = kind.from_pretrained(folder, **settings, output_loading_info=True)
    return _whole(network, report, folder)


def _whole(network: Any, report: Mapping[str, Any], path: Path) -> Any:
    """`network` as its loading reports it, without a pooling layer that its files do not have.

    Libraries fill missing weights with noise and only warn. Images would be garbage; a pooling layer
    is never used, and must not be saved.
    Raises VesaliusError where weights are missing.
    """
    if missing := missing_weights(report):
        raise VesaliusError(
            f"{path} lacks {len(missing)} of its weights, such as {missing[0]}: get it again"
        )
    if any(key.startswith("pooler.") for key in report["missing_keys"]):
        network.pooler = None
    return network


def _name(model: str | Path, folder: Path) -> str:
    # a folder's own name, not its path: the name goes into every image's provenance
    bundled = str(model) in bundled_models()
    return str(model) if not Path(model).is_dir() or bundled else folder.resolve().name


def _outline(folder: Path, role: str, class_name: str) -> Any:
    """A network as its configuration describes it, with whatever weights it starts from."""
    cls = _class_of(folder, role, class_name)
    path = folder / role
    try:
        if role == "text_encoder":
            return cls(cls.config_class.from_pretrained(path, local_files_only=True))
        return cls.from_config(cls.load_config(path, local_files_only=True))
    except Exception as error:  # as in _load_part
        raise_if_asked(error)
        raise VesaliusError(f"cannot build {path}: {first_line(error)}") from error


def _load_part(folder: Path, role: str, class_name: str) -> Any:
    cls = _class_of(folder, role, class_name)
    path = folder / role
    if role in WEIGHTS:  # an outline costs nothing, however large a configuration makes the network
        with torch.device("meta"):
            _check_weights(_outline(folder, role, class_name), folder, role)
    try:
        if role in ("tokenizer", "scheduler"):
            return cls.from_pretrained(path, local_files_only=True)
        part, report = cls.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            variant=variant(folder, role),
            output_loading_info=True,
        )
    except Exception as error:  # the libraries raise a dozen types for a folder that is not right
        raise_if_asked(error)
        raise VesaliusError(f"cannot load {path}: {first_line(error)}") from error
    return _whole(part, report, path)


def _check_weights(outline: Any, folder: Path, role: str) -> None:
    """Raise VesaliusError where a configuration describes far more numbers than the files have."""
    described = sum(parameter.numel() for parameter in outline.parameters())
    stored = stored_parameters(folder, role)
    if described > 2 * stored + 10_000_000:  # a pooling layer may be missing
        raise VesaliusError(
            f"{folder / role} describes {described:,} weights, and its files have {stored:,}: get it "
            "again"
        )


def _class_of(folder: Path, role: str, name: str) -> Any:
    """The class called `name`, if it is our U-ViT or the two libraries' own, and fits the role."""
    if role == "unet" and name == OWN_DENOISER[1]:
        from vesalius.models.uvit import UViT

        return UViT
    if role in ("text_encoder", "tokenizer"):
        import transformers as library

        base = (
            library.PreTrainedModel if role == "text_encoder" else library.PreTrainedTokenizerBase
        )
    else:
        import diffusers as library

        base = library.SchedulerMixin if role == "scheduler" else library.ModelMixin
    cls = getattr(library, name, None)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise VesaliusError(
            f"{folder}: its {role} is a {name}, which the installed {library.__name__} "
            f"{library.__version__} does not know as one"
        )
    return cls


def _library(part: Any) -> str:
    """What model_index.json says of where a class is from, as diffusers itself writes it."""
    module = type(part).__module__
    root = module.split(".")[0]
    return root if root in ("diffusers", "transformers") else module


def _check_fit(generator: Generator, folder: Path) -> None:
    """Raise VesaliusError unless the parts fit together."""
    unet, vae = generator.unet.config, generator.vae.config
    if not hasattr(unet, "cross_attention_dim") or not hasattr(vae, "latent_channels"):
        raise VesaliusError(
            f"{folder}: a {type(generator.unet).__name__} with a {type(generator.vae).__name__} "
            "is not a text-to-image latent diffusion model"
        )
    if unet.in_channels != vae.latent_channels:
        raise VesaliusError(
            f"{folder}: its denoiser takes {unet.in_channels} channels and its autoencoder makes "
            f"{vae.latent_channels}: it is not a text-to-image model (for inpainting, perhaps?)"
        )


def _forget_origin(path: Path) -> None:
    """Drop the folder that a part was loaded from: it is a path on its maker's disk."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    _write_json(path, config)


def _forget_padding(path: Path) -> None:
    """Drop how texts were padded last: whether any were, in this process, must not show in the file."""
    if path.is_file():
        about = json.loads(path.read_text(encoding="utf-8"))
        _write_json(path, about | {"padding": None, "truncation": None})


def _halve(path: Path) -> None:
    tensors, _ = read_tensors(path)
    halved = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    save_tensors(path, halved, {"format": "pt"})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
