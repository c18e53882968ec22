"""`/sdapi/v1`: the requests of clients that were written for the common web UI of Stable Diffusion.

Settings that have no meaning here are not refused, as clients send all that they know; `info` names
those that were left out.
"""

import json
import re
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vesalius.errors import VesaliusError
from vesalius.images.provenance import read_provenance
from vesalius.sample.samplers import NAMES
from vesalius.serve.api import REFUSALS, Asker, Parts
from vesalius.serve.bodies import DRAWN, LARGEST_SEED, Drawing, Prompt, Text, parse_body
from vesalius.serve.database import Made
from vesalius.serve.service import Service
from vesalius.serve.settings import MOST_BODY, MOST_IMAGES, MOST_STEPS
from vesalius.serve.uploads import content_of
from vesalius.serve.waiting import as_text, drawn

webui = APIRouter(prefix="/sdapi/v1", tags=["web UI"], responses=REFUSALS)
_TITLES = {
    "ddim": "DDIM",
    "dpm++2m": "DPM++ 2M",
    "unipc": "UniPC",
    "euler": "Euler",
    "heun": "Heun",
    "euler-a": "Euler a",
}
_LORA = re.compile(r"<lora:([^:<>]+)(?::([^<>]*))?>")
_OWN = ("", "automatic")  # names of a sampler that mean the model's own


class Overrides(BaseModel):
    """Settings for one request."""

    model_config = ConfigDict(extra="allow")
    sd_model_checkpoint: str | None = Field(None, max_length=300)


class Txt2Img(BaseModel):
    """What is read of `txt2img`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    prompt: Prompt
    negative_prompt: Text = Field("", max_length=2000)
    seed: int = Field(DRAWN, ge=DRAWN, le=LARGEST_SEED)
    steps: int | None = Field(None, ge=1, le=MOST_STEPS)
    cfg_scale: float | None = Field(None, ge=0, le=100)
    width: int | None = Field(None, ge=1, le=4096)
    height: int | None = Field(None, ge=1, le=4096)
    batch_size: int = Field(1, ge=1, le=MOST_IMAGES)
    n_iter: int = Field(1, ge=1, le=MOST_IMAGES)
    sampler_name: str | None = Field(None, max_length=100)
    sampler_index: str | None = Field(None, max_length=100)
    override_settings: Overrides | None = None


class Img2Img(Txt2Img):
    """What is read of `img2img`; a mask is white where the image is drawn anew."""

    init_images: list[str] = Field(min_length=1, max_length=1)
    denoising_strength: float = Field(0.75, ge=0, le=1)
    mask: str | None = Field(None, max_length=MOST_BODY)
    mask_blur: int = Field(4, ge=0, le=256)


class Drawn(BaseModel):
    """Base64 of PNG files; `info` is JSON in a text."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class ProgressAnswer(BaseModel):
    """How far the job at hand is."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None
    textinfo: str | None


class Checkpoint(BaseModel):
    """A model; `filename` is its name, not its place."""

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class SamplerAnswer(BaseModel):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class PngInfo(BaseModel):
    """What is to be read: base64 of an image file."""

    image: str = Field(max_length=MOST_BODY)


class PngInfoAnswer(BaseModel):
    """What an image says of its making."""

    info: str
    items: dict[str, str]
    parameters: dict[str, str]


def _sampler(body: Txt2Img) -> str | None:
    """Ours by the name that these clients use. Raises VesaliusError for one that there is not."""
    asked = body.sampler_name or body.sampler_index or ""
    name = asked.lower().removesuffix(" karras").strip()
    if name in _OWN:
        return None
    known = {title.lower(): ours for ours, title in _TITLES.items()} | {n: n for n in NAMES}
    if name not in known:
        raise VesaliusError(f"no sampler {asked!r}: choose one of {', '.join(_TITLES.values())}")
    return known[name]


def _model(service: Service, user: str, body: Txt2Img) -> str:
    asked = body.override_settings.sd_model_checkpoint if body.override_settings else None
    return _named(service, asked) if asked else service.chosen.get(user, service.catalogue.default)


def _named(service: Service, title: str) -> str:
    """The model with this title. Raises VesaliusError where there is none."""
    id = title.partition(" [")[0]  # the web UI's own titles end in a hash
    if id not in service.catalogue.models:
        known = ", ".join(service.catalogue.models)
        raise VesaliusError(f"no model {id!r}: {known} can be chosen")
    return id


def _asked(service: Service, user: str, body: Txt2Img) -> Drawing:
    """The body of a job. Raises VesaliusError for what cannot be drawn."""
    adapters = [{"id": m[1], "weight": _weight(m[2])} for m in _LORA.finditer(body.prompt)]
    asked: dict[str, Any] = {
        "kind": "generate",
        "prompt": _LORA.sub("", body.prompt).strip(),
        "negative": body.negative_prompt,
        "seed": body.seed,
        "steps": body.steps,
        "guidance": body.cfg_scale,
        "sampler": _sampler(body),
        "model": _model(service, user, body),
        "adapters": adapters,
        "n": body.batch_size * body.n_iter,
    }
    size = None
    if body.width or body.height:
        own = service.catalogue.models[asked["model"]].size
        size = f"{body.width or own[0]}x{body.height or own[1]}"
    if isinstance(body, Img2Img):
        asked["image"] = {"data": body.init_images[0]}
        asked["strength"] = body.denoising_strength
        if body.mask is not None:
            asked |= {"kind": "inpaint", "mask": {"data": body.mask}, "feather": body.mask_blur}
        else:
            asked |= {"kind": "image-to-image", "size": size}
    else:
        asked["size"] = size
    try:
        return parse_body(asked)
    except ValidationError as error:
        first = error.errors()[0]
        raise VesaliusError(f"{first['loc'][-1]}: {first['msg']}") from error


def _weight(text: str | None) -> float:
    try:
        return float(text or 1)
    except ValueError as error:
        raise VesaliusError(f"the weight {text!r} of a LoRA is not a number") from error


def _ignored(body: Txt2Img) -> list[str]:
    """The names of what was sent and has no effect."""
    extra = list(body.model_extra or {})
    if body.override_settings:
        extra += [f"override_settings.{name}" for name in body.override_settings.model_extra or {}]
    return sorted(name for name in extra if name not in ("send_images", "save_images"))


def _info(service: Service, body: Txt2Img, made: list[Made]) -> str:
    """What the images were drawn with, as these clients read it."""
    first = made[0].provenance
    return json.dumps(
        {
            "prompt": made[0].prompt,
            "all_prompts": [one.prompt for one in made],
            "negative_prompt": first["negative"],
            "all_negative_prompts": [first["negative"]] * len(made),
            "seed": made[0].seed,
            "all_seeds": [one.seed for one in made],
            "width": first["width"],
            "height": first["height"],
            "sampler_name": first["sampler"],
            "cfg_scale": first["guidance"],
            "steps": first["steps"],
            "batch_size": len(made),
            "sd_model_name": made[0].model,
            "sd_model_hash": first["model_hash"],
            "infotexts": [_text(one.provenance) for one in made],
            "images": [one.id for one in made],
            "ignored": _ignored(body),
        }
    )


def _text(provenance: dict[str, Any]) -> str:
    """A provenance as the web UI writes it: prompts, then a line of settings."""
    lines = [str(provenance["prompt"])]
    if provenance["negative"]:
        lines.append(f"Negative prompt: {provenance['negative']}")
    names = {"Steps": "steps", "Sampler": "sampler", "CFG scale": "guidance", "Seed": "seed"}
    facts = [f"{title}: {provenance[name]}" for title, name in names.items()]
    facts.append(f"Size: {provenance['width']}x{provenance['height']}")
    facts += [f"Model hash: {provenance['model_hash']}", f"Model: {provenance['model']}"]
    return "\n".join([*lines, ", ".join(facts)])


async def _answer(service: Service, user: str, body: Txt2Img) -> Drawn:
    _, made = await drawn(service, user, _asked(service, user, body))
    known = dict.fromkeys(set(type(body).model_fields) - {"init_images", "mask"}, True)
    include: Any = known | {"override_settings": {"sd_model_checkpoint"}}
    parameters = body.model_dump(mode="json", include=include)
    images = [await as_text(service, one) for one in made]
    return Drawn(images=images, parameters=parameters, info=_info(service, body, made))


@webui.post("/txt2img")
async def txt2img(body: Txt2Img, who: Asker, service: Parts) -> Drawn:
    """Images from text, when they are drawn. `<lora:ID:WEIGHT>` in the prompt takes an adapter."""
    return await _answer(service, who.user, body)


@webui.post("/img2img")
async def img2img(body: Img2Img, who: Asker, service: Parts) -> Drawn:
    """Images from an image, or of a part of one."""
    return await _answer(service, who.user, body)


@webui.get("/progress")
def progress(who: Asker, service: Parts, skip_current_image: bool = False) -> ProgressAnswer:
    """How far the job at hand is."""
    live = service.conductor.live
    job = service.database.job(live.job) if live else None
    waiting = len(service.database.waiting())
    state = {
        "skipped": False,
        "interrupted": False,
        "job": job.id if job else "",
        "job_count": waiting,
        "job_no": 0,
        "sampling_step": live.step if live else 0,
        "sampling_steps": service.answers([job])[0].steps if job else 0,
    }
    image = None
    if live and not skip_current_image:
        image = next(iter(live.previews.values()), None)
    return ProgressAnswer(
        progress=live.done / len(job.images) if live and job else 0.0,
        eta_relative=service.conductor.remaining() or 0.0,
        state=state,
        current_image=image,
        textinfo=None,
    )


@webui.post("/interrupt")
def interrupt(who: Asker, service: Parts) -> dict[str, Any]:
    """Cancel the asker's own job that is being drawn."""
    live = service.conductor.live
    job = service.database.job(live.job) if live else None
    if job and job.owner == who.user:
        service.conductor.cancel(job.id)
    return {}


@webui.get("/options")
def options(who: Asker, service: Parts) -> dict[str, Any]:
    """The settings that have a meaning here."""
    model = service.chosen.get(who.user, service.catalogue.default)
    return {
        "sd_model_checkpoint": model,
        "sd_checkpoint_hash": service.conductor.hashes.get(model),
        "samples_format": "png",
    }


@webui.post("/options")
def set_options(body: Overrides, who: Asker, service: Parts) -> None:
    """Choose the model of this user's next requests; other settings are left alone."""
    if body.sd_model_checkpoint:
        service.chosen[who.user] = _named(service, body.sd_model_checkpoint)


@webui.get("/sd-models")
def sd_models(who: Asker, service: Parts) -> list[Checkpoint]:
    """The models that can be chosen."""
    return [
        Checkpoint(
            title=id,
            model_name=id,
            hash=service.conductor.hashes.get(id),
            sha256=None,
            filename=id,
            config=None,
        )
        for id in service.catalogue.models
    ]


@webui.get("/samplers")
def samplers(who: Asker) -> list[SamplerAnswer]:
    """The samplers that can be chosen."""
    return [SamplerAnswer(name=t, aliases=[ours], options={}) for ours, t in _TITLES.items()]


@webui.post("/png-info")
def png_info(body: PngInfo, who: Asker) -> PngInfoAnswer:
    """What an image says inside of its making."""
    facts = read_provenance(content_of(body.image))
    needed = ("prompt", "negative", "steps", "sampler", "guidance", "seed", "width", "height")
    whole = all(name in facts for name in (*needed, "model", "model_hash"))
    return PngInfoAnswer(
        info=_text(dict(facts)) if whole else "", items=facts, parameters=facts if whole else {}
    )
